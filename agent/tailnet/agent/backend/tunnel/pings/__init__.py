"""Pings of every kind."""
