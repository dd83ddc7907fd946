"""A stack without TCP, for machines without the extension."""
