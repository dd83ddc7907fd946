"""What the network is like: reachable relays and how far, NAT, UDP, captive portals; the home."""
