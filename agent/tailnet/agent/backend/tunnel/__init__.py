"""One TUN device with everything that carries its packets."""
