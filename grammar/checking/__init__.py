"""What is true of a solution."""
