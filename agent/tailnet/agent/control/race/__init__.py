"""Several ways at once; the first that works wins."""
