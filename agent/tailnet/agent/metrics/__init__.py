"""What the node counts, for Prometheus and everything that reads its text."""
