"""What the service manager hears of this daemon."""
