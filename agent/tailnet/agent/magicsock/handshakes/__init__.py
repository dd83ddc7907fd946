"""Where messages of handshakes go."""
