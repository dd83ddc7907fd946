"""What happens to a node, for those who watch."""
