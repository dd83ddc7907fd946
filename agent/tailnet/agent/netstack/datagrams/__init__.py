"""UDP through the native stack."""
