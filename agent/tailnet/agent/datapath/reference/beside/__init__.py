"""Two packet sockets beside the way of the packets: to the daemon's services, and of a capture."""
