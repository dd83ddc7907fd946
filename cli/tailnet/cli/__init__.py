"""tnet, the command line."""
