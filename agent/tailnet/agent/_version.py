"""Version of the three distributions' one package."""

__version__ = "0.1.0"
