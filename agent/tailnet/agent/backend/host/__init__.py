"""The host's side of the tunnel: routes and firewall, kept as wished."""
