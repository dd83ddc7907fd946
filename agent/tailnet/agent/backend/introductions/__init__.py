"""Disco keys that peers tell each other."""
