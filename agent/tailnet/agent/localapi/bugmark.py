"""The marker of a bug report: a line to find in the log.

::

    BUG-<64 hex digits of the log id>-<UTC, as 20260102030405Z>-<16 hex digits>

Source: tailscale ipn/localapi/localapi.go, serveBugReport.
"""

from datetime import datetime


def bugmark(log_id: str, now: datetime, random8: bytes) -> str:
    """A new one; ``now`` is UTC."""
    return f"BUG-{log_id}-{now:%Y%m%d%H%M%S}Z-{random8.hex()}"
