"""What this node serves to peers."""
