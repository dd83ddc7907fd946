"""What peers say inside the tunnel."""
