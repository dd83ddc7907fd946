"""From a host and a port to an open stream."""
