"""One established connection to a relay."""
