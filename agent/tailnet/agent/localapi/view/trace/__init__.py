"""What a trace looks at."""
