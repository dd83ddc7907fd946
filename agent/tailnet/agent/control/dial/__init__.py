"""Reaching a control server: names, sockets, TLS, the upgrade."""
