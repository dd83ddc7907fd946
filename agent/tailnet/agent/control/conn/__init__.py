"""An open control connection and its requests."""
