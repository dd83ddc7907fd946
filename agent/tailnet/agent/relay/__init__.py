"""Being a relay for two peers that cannot reach each other."""
