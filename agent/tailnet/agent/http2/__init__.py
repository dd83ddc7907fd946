"""HTTP/2 for both ends of a connection, without I/O."""
