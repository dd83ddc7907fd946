"""Secrets that are not on the command line."""
