"""Peers that use us: what they may ask, and what they are told."""
