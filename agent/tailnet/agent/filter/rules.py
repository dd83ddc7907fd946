"""Placeholder until the filter room is written."""


class Filter:
    """Compiled rules."""
