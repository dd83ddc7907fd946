"""Asking others."""
