"""The kept maps of all accounts, of which one is in use."""
