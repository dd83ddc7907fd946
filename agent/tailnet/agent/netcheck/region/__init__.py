"""Whether the relays of a region do what they are there for."""
