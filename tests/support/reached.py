"""Waiting for what a test cannot be told of."""

import asyncio
from collections.abc import Callable

PATIENCE = 10.0  # seconds; whoever waits for so long has failed
LOOK = 0.001  # seconds between two looks


async def reached(condition: Callable[[], bool]) -> None:
    """Once something holds; the loop runs meanwhile.

    Raises:
        TimeoutError: it never did.
    """
    loop = asyncio.get_running_loop()
    holds = asyncio.Event()

    def look() -> None:
        if condition():
            holds.set()
        elif not loop.is_closed():
            loop.call_later(LOOK, look)

    look()
    async with asyncio.timeout(PATIENCE):
        await holds.wait()
