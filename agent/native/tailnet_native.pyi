"""The native packet path; see ``tailnet.agent.datapath.native``."""

__all__ = ["INTERFACE"]

INTERFACE: int
