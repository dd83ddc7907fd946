"""ICMP echo through the tunnel, asked by this machine's own kernel."""
