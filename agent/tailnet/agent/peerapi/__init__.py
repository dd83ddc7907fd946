"""What peers may ask of us over HTTP, at our own addresses of the tailnet."""
