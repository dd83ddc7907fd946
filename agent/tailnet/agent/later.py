"""An answer that comes later, told the moment it is there.

A future would tell in the loop's next turn: one more look at every descriptor before the answer
leaves.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """Told once, or cancelled; can be awaited too.

    Attributes:
        stop: what ends the work for it, once nobody waits.
    """

    __slots__ = ("_over", "_said", "_told", "stop")

    def __init__(self) -> None:
        self._over = False
        self._said: list[T] = []
        self._told: Callable[[T | None], None] | None = None
        self.stop: Callable[[], None] = _nothing

    def then(self, told: Callable[[T | None], None]) -> None:
        """Call ``told`` with the end, perhaps at once; ``None``: it was cancelled."""
        if self._over:
            told(self._said[0] if self._said else None)
        else:
            self._told = told

    def tell(self, said: T) -> None:
        """This is the answer; one after the end is none."""
        if not self._over:
            self._said.append(said)
            self._end(said)
            self.stop = _nothing

    def cancel(self) -> None:
        """Nobody waits any more.  Idempotent."""
        if not self._over:
            self._end(None)
            self.stop()

    def _end(self, said: T | None) -> None:
        self._over = True
        told, self._told = self._told, None
        if told is not None:
            told(said)

    def __await__(self) -> Generator[object, None, T | None]:
        """The end; cancelled with whoever awaits it."""
        return self._wait().__await__()

    async def _wait(self) -> T | None:
        end: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

        def told(said: T | None) -> None:
            if not end.done():
                end.set_result(said)

        self.then(told)
        try:
            return await end
        finally:
            self.cancel()


def _nothing() -> None:
    pass
