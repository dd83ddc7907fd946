"""Pings of peers, for users and for the control server."""
