"""The control session of the account in use."""
