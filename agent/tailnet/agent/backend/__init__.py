"""Preferences, state and the plan that turns a netmap into configuration."""
