"""Which path a packet takes: per-peer path machines, endpoints, relays."""
