"""HTTP requests to the gateway, bounded in time and size."""
