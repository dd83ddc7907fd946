"""Version of the three distributions' one package, and of the protocol it speaks."""

__version__ = "0.1.0"

CAPABILITY_VERSION = 121  # of the control protocol; what we do is what it asks for (tailcfg.go)
