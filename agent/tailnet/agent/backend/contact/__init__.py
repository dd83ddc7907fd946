"""Which control sessions there are: the one in use, and one that is to replace it."""
