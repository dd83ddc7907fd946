"""Telling the control server what has changed here."""
