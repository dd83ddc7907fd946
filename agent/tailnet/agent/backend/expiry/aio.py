"""``KeyExpiry``: one timer, for the moment at which this node's key ends."""

import asyncio
from collections.abc import Callable

SLACK = 10.0  # seconds after the key's end until the state follows
LONGEST_TIMER = 86_400.0  # seconds; a wall clock may be set meanwhile


class KeyExpiry:
    """Calls ``on_end`` when the key has ended, or earlier, to look again.

    Args:
        left: seconds until the end by the server's clock; ``None``: never.
    """

    def __init__(self, left: Callable[[], float | None], on_end: Callable[[], None]) -> None:
        self._left = left
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Another map, or none: the end may be at another time."""
        self.close()
        left = self._left()
        if left is not None and left > 0:
            delay = min(left + SLACK, LONGEST_TIMER)
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def close(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self.arm()
        self._on_end()
