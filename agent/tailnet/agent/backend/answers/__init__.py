"""What this node tells its control server when asked."""
