"""Which way a connection goes, and going it."""
