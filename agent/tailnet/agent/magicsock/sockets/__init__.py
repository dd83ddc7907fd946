"""What magicsock asks of the operating system: UDP sockets and the list of addresses."""
