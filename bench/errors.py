"""The one error of the bench."""


class BenchFailed(Exception):
    """What runs isn't what was meant to be measured; the sentence says what is wrong."""
