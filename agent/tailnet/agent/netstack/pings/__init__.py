"""Pings to what this node announces."""
