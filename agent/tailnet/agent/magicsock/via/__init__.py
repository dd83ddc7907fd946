"""Using peer relays: nodes of the tailnet that hand datagrams on between two others."""
