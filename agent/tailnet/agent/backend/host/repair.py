"""How often we put back what others keep removing.

A program that cleans up what it does not know (a network manager after a reload) is answered at
once.  Two daemons that each take the other's for residue would keep a machine busy: after a burst
they only take turns, and people are told.

Source: tailscale wgengine/router/osrouter/router_linux.go, the limiter of rule restoration.
"""

BURST = 10  # repairs at once
EVERY = 5.0  # seconds, from then on


class RepairLimit:
    """A bucket of repairs; two programs that undo each other must not fill the CPU."""

    def __init__(self) -> None:
        self._full_at = 0.0  # when the bucket is full again
        self._contested = False

    def take(self, now: float) -> float:
        """Take one; seconds to wait before it is done."""
        self._full_at = max(self._full_at, now) + EVERY
        wait = max(0.0, self._full_at - now - BURST * EVERY)
        self._contested = wait > 0 or self.contested(now)
        return wait

    def contested(self, now: float) -> bool:
        """The bucket was empty, and is not half full again."""
        self._contested = self._contested and now < self.peace_at
        return self._contested

    @property
    def peace_at(self) -> float:
        """When the bucket is half full, if nobody takes from it."""
        return self._full_at - BURST / 2 * EVERY
