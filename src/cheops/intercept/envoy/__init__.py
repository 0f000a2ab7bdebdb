"""Envoy as the data plane: its files as values, its Lua, and the process."""
