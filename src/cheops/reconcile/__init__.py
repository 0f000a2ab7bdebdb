"""What is missing where (pure), and the loop that repairs it."""
