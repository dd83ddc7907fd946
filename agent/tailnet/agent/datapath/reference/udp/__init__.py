"""UDP sockets that move many datagrams per system call."""
