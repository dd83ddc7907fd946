"""Disco: the messages that find direct paths."""
