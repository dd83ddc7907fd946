"""How a node and its peers stand."""
