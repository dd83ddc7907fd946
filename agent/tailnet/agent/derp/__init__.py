"""DERP relays: framing, one session, the fleet of regions."""
