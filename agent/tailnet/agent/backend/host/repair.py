"""How often we put back what others keep removing.

Source: tailscale wgengine/router/osrouter/router_linux.go, the limiter of rule restoration.
"""

BURST = 10  # repairs at once
EVERY = 5.0  # seconds, from then on


class RepairLimit:
    """A bucket of repairs; two programs that undo each other must not fill the CPU."""

    def __init__(self) -> None:
        self._full_at = 0.0  # when the bucket is full again

    def take(self, now: float) -> float:
        """Take one; seconds to wait before it is done."""
        self._full_at = max(self._full_at, now) + EVERY
        return max(0.0, self._full_at - now - BURST * EVERY)
