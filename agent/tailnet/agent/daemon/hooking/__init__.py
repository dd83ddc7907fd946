"""What happens to a node, told to its hooks."""
