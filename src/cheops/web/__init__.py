"""What the agent itself answers: the admin API for people of this site, the mesh API for peers."""
