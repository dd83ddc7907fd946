"""Linux: TUN, netlink, sockets' marks."""
