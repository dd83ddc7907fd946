"""The end of this node's key, awaited."""
