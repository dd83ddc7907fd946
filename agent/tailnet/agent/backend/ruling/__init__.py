"""The configuration file, and the account it rules."""
