"""What a tunnel can say of itself and of the network."""
