"""What outlives the agent. Every engine has an in-memory twin and passes one conformance check."""
