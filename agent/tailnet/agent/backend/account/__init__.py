"""Who this node is, to the state file and to the control server."""
