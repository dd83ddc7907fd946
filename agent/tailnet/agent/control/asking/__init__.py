"""One question to the server, beside the session."""
