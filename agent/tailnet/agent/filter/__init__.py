"""The packet filter: rules from the map, flow state for replies."""
