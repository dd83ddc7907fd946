"""What the packets' tables have."""
