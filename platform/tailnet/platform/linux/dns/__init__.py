"""How this host resolves names: who decides over it, and how that is told."""
