"""The connection to the control server that is in use."""
