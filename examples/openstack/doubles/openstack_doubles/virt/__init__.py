"""What nova looks for in its own folder nova.virt."""
