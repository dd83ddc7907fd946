"""Asking the router for a port to see what it says, beside the mapping in use."""
