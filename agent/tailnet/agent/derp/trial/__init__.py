"""Whether a relay can be reached, without using it."""
