"""What is tried out on request, of a real node."""
