"""A race of attempts, and what went wrong in words."""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from tailnet.agent.errors import TailnetError

T = TypeVar("T")


def reason(error: OSError) -> str:
    """A system error in words."""
    if isinstance(error, socket.gaierror | ssl.SSLError) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)


async def _at_most(delay: float, event: asyncio.Event) -> None:
    """Wait for the event, but no longer than that [s]."""
    with suppress(TimeoutError):
        async with asyncio.timeout(delay):
            await event.wait()


async def race(
    attempts: Sequence[tuple[float, Callable[[], Awaitable[T]]]], *, discard: Callable[[T], None]
) -> T:
    """The first result.

    An attempt starts when its delay [s] since the beginning is over, or when the one before failed.

    Raises:
        OSError: all failed; the first one's error, or the texts of all.
    """
    won: list[T] = []
    errors: list[Exception] = []
    tasks: list[asyncio.Task[None]] = []
    failed = [asyncio.Event() for _ in attempts]

    async def run(index: int, delay: float, start: Callable[[], Awaitable[T]]) -> None:
        if index:
            await _at_most(delay, failed[index - 1])
        try:
            value = await start()
        except (OSError, TailnetError) as error:
            errors.append(error)
            failed[index].set()
            return
        if won:
            discard(value)
            return
        won.append(value)
        for other in tasks:
            if other is not asyncio.current_task():
                other.cancel()

    # Ending the group by an exception would leave the caller with a cancellation request, which
    # asyncio.timeout of Python 3.11.2 takes for its own caller's.
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [
                group.create_task(run(index, delay, start), name=f"dial {index}")
                for index, (delay, start) in enumerate(attempts)
            ]
    except asyncio.CancelledError:
        for value in won:
            discard(value)
        raise
    if won:
        return won[0]
    if len(errors) == 1 and isinstance(errors[0], OSError):
        raise errors[0]
    raise OSError("; ".join(reason(e) if isinstance(e, OSError) else str(e) for e in errors))
