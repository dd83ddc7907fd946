"""A ``Node`` as the LocalAPI shows it."""
