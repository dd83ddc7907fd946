"""TLS to a relay, in few steps."""
