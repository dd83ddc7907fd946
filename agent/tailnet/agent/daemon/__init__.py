"""The parts of a running daemon, joined."""
