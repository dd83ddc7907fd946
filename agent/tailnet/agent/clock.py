"""The only module that reads a clock.

``now()`` counts through suspend, so keys expire while a laptop sleeps; asyncio's own clock stops.
"""

import time
from datetime import UTC, datetime


def now() -> float:
    """Seconds since boot, never decreasing, suspend included (``CLOCK_BOOTTIME``)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> datetime:
    """UTC wall-clock time, for TAI64N stamps and key expiry only."""
    return datetime.now(UTC)
