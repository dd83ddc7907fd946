"""The firewall: what is wanted, as data, and one atomic transaction to have it."""
