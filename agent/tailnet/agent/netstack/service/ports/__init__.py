"""The ports: whose handler, and how much of it at once."""
