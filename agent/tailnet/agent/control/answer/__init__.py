"""Answering what the control server asks of this node."""
