"""The resolver: what we know ourselves, and whom we ask for the rest."""
