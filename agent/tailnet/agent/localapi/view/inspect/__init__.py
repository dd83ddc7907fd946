"""A node for those who look inside."""
