"""The wire and the request: Envoy's configuration and Lua, how a scope is carried, and the agent's ASGI door."""
