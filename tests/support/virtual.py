"""An event loop whose time passes as fast as nothing happens.

Sockets are real; when none has anything to say, the clock jumps to the next deadline.  Only for
what needs no answer from another process or thread.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits: skips time instead."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - as its base
        """What is ready now; if nothing is, ``timeout`` has passed."""
        ready = super().select(0)
        if not ready and timeout is not None and timeout > 0:
            self.skipped += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock begins at 0."""

    def __init__(self) -> None:
        self._skipping = _Selector()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Seconds that were skipped."""
        return self._skipping.skipped


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
