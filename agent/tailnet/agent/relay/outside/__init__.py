"""Where the peer relay's own sockets are seen from outside."""
