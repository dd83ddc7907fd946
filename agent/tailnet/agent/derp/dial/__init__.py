"""Getting a byte stream to a relay."""
