"""Which hooks run now, which wait, and which are left out: bounded in number and in rate.

::

    happening ──► rate of each hook ──► queue ──► at most MAX_RUNNING at a time
                       └─► dropped, counted        └─► dropped, counted
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from tailnet.agent.hooks.happenings import Happening
from tailnet.agent.hooks.settings import Hook

BURST = 10  # runs of one hook at once
EVERY = 2.0  # seconds for one more
MAX_RUNNING = 4
MAX_WAITING = 64


class Run(NamedTuple):
    """One hook, because of one happening."""

    hook: Hook
    happening: Happening


class RunQueue:
    """Of all hooks.

    Attributes:
        dropped: runs that were too many.
    """

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._waiting: deque[Run] = deque()
        self._running = 0
        self._at = 0.0
        self.dropped = 0
        self.configure(hooks)

    def configure(self, hooks: Sequence[Hook]) -> None:
        """Queue these from now on; what waits is run all the same."""
        self._hooks = hooks
        self._allowed = [float(BURST)] * len(hooks)

    def happened(self, happening: Happening, now: float) -> int:
        """Queue the hooks that it concerns; how many of them were too many."""
        gain, self._at = (now - self._at) / EVERY, now
        left_out = 0
        for i, hook in enumerate(self._hooks):
            self._allowed[i] = min(float(BURST), self._allowed[i] + gain)
            if hook.occasion is not happening.occasion:
                continue
            if self._allowed[i] < 1 or len(self._waiting) >= MAX_WAITING:
                left_out += 1
                continue
            self._allowed[i] -= 1
            self._waiting.append(Run(hook, happening))
        self.dropped += left_out
        return left_out

    @property
    def busy(self) -> bool:
        """Something runs or waits."""
        return bool(self._running or self._waiting)

    def poll(self) -> Run | None:
        """One to start now; tell :meth:`ended` when it is over."""
        if not self._waiting or self._running >= MAX_RUNNING:
            return None
        self._running += 1
        return self._waiting.popleft()

    def ended(self) -> None:
        """One that was started is over."""
        self._running -= 1
