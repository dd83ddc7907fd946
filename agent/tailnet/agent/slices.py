"""Long work in slices, so that packets, timers and other people get their turn in between.

What takes long for ten thousand peers is written as a generator that stops after every
:data:`SLICE` of them.  A shell lets the event loop run at each stop
(:func:`tailnet.agent.tasks.in_slices`); whoever is in no hurry to return calls :func:`finish`.
Both do the same things in the same order.
"""

import gc
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work that stops now and then, and returns a ``T`` in the end."""

SLICE = 100  # peers; the dearest work on one takes 40 to 80 µs


def finish(steps: Steps[T]) -> T:
    """Do it all at once."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


def sliced(items: Sequence[T], times: int = 1) -> Iterator[Sequence[T]]:
    """Consecutive parts of at most ``times`` :data:`SLICE` items."""
    size = times * SLICE
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def much_to_keep() -> Iterator[None]:
    """What is made here lives long: the collector need not look at it, now or later.

    A collection of all that ten thousand peers are made of stops everything for 50 ms and more.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
