"""The daemon core: protocols, state, decisions."""
