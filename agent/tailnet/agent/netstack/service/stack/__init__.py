"""The ports at a datapath."""
