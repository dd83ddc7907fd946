"""Processor time by stack: the event loop's thread is looked at a hundred times a second.

A timer of the system interrupts the thread, and what it is at counts for the time between two
looks.  (A thread that looks would see it only where it lets others run, which is where it waits.)
While the loop waits there is nothing to count.
"""

import asyncio
import signal
import time
import traceback
from types import FrameType

from tailnet.agent.profiling.pprof import Kind, Place, Stack, encode

EVERY = 10_000_000  # ns between two looks, as Go's
KINDS = (Kind("samples", "count"), Kind("cpu", "nanoseconds"))
MAX_STACKS = 10_000  # different ones; what is beyond counts for nobody
DEEPEST = 128  # places of a stack


class Sampler:
    """Adds up what looks find."""

    def __init__(self) -> None:
        self.samples: dict[Stack, tuple[int, int]] = {}

    def look(self, _: int, frame: FrameType | None) -> None:
        """A signal handler."""
        if frame is None or frame.f_globals.get("__name__") == "selectors":
            return
        stack = _stack(frame)
        if stack in self.samples or len(self.samples) < MAX_STACKS:
            count, spent = self.samples.get(stack, (0, 0))
            self.samples[stack] = count + 1, spent + EVERY


def _stack(frame: FrameType) -> Stack:
    """Names and lines, no values."""
    return tuple(
        Place(each.f_code.co_qualname, each.f_code.co_filename, line)
        for each, line in traceback.walk_stack(frame)
    )[:DEEPEST]


async def record(seconds: float) -> bytes:
    """A profile of the next ``seconds``, on the main thread; takes ``SIGALRM`` meanwhile."""
    sampler, begun = Sampler(), time.time_ns()
    before = signal.signal(signal.SIGALRM, sampler.look)
    timer = signal.setitimer(signal.ITIMER_REAL, EVERY / 1e9, EVERY / 1e9)
    try:
        await asyncio.sleep(seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    took = time.time_ns() - begun
    return encode(KINDS, sampler.samples, begun=begun, took=took, period=(KINDS[1], EVERY))
