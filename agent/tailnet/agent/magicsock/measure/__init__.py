"""Measuring the network for magicsock."""
