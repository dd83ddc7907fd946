"""Waiting for something that has no event of its own."""

import time
from collections.abc import Callable
from typing import TypeVar

from integration.lab.process import LabError

POLL = 0.02  # seconds between two looks

T = TypeVar("T")


def until(what: str, look: Callable[[], T | None], timeout: float, *, every: float = POLL) -> T:
    """Look again and again until ``look`` returns something true; returns that.

    Args:
        what: for the message, as in "waited 5 s for …".
        look: returns a false value as long as it is not so.
        timeout: seconds.
        every: seconds between two looks.

    Raises:
        LabError: not so within ``timeout``.
    """
    deadline = time.monotonic() + timeout
    while True:
        if found := look():
            return found
        if time.monotonic() >= deadline:
            msg = f"waited {timeout:.0f} s for {what}"
            raise LabError(msg)
        time.sleep(every)
