"""A node as metrics."""
