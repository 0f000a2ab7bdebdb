"""What is seen of the requests that the agent serves: counted for Prometheus, and as spans of traces."""
