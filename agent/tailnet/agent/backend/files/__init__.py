"""Files of the backend: the state file."""
