"""Forwarding for others."""
