"""Who listens on this host, for a control server that wants to know."""
