"""The sites of a deployment: how one is made, and by what they know each other."""
