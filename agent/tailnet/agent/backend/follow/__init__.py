"""Bringing plan and packets to the latest wishes, without standing in anybody's way."""
