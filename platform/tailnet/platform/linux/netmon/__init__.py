"""What the host's network is, and when it became another."""
