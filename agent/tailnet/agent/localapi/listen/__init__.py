"""Where the LocalAPI listens."""
