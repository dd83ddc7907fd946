"""Asking by HTTP."""
