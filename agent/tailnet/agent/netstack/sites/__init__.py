"""Being the router of a site (4via6): IPv4 networks that peers reach by IPv6."""
