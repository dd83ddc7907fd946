"""Whether anything is wrong with a node."""
