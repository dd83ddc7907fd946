"""The daemon's life: what starts in which order, what ends it, and the way back down.

Down is the reverse of up: no new requests, then the control session, then routes and rules, then
the packets.  A second signal while going down is ignored; every step is bounded.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("tailnet.supervisor")

STOP_TIMEOUT = 10.0  # seconds for the whole way down


class Service(Protocol):
    """A part with a life of its own."""

    async def start(self) -> None:
        """Be ready when this returns; raise ``UserError`` or ``PlatformError`` if not possible."""

    async def close(self) -> None:
        """Give everything back.  Called once, also after a failed start."""


async def supervise(
    services: list[tuple[str, Service]],
    *,
    failed: asyncio.Future[str],
    ready: Callable[[], object],
    stopping: Callable[[], object],
    failing: Callable[[], object] = lambda: None,
) -> str | None:
    """Start all services in order, wait for a signal or a failure, close them in reverse.

    Args:
        services: name and service, in the order of starting.
        failed: resolved by a service that cannot go on; its text is for the user.
        ready: called when all are up.
        stopping: called when the way down begins.
        failing: called before that if no signal asked for it.

    Returns:
        The failure's text, or ``None`` after a signal.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    started: list[tuple[str, Service]] = []
    try:
        for name, service in services:
            started.append((name, service))
            await service.start()
            if told.is_set():
                return None
        ready()
        signal_task = loop.create_task(told.wait(), name="signal")
        try:
            await asyncio.wait((signal_task, failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            signal_task.cancel()
        return failed.result() if failed.done() else None
    finally:
        if not told.is_set():
            failing()
        stopping()
        await _close(started)


async def _close(started: list[tuple[str, Service]]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT):
            for name, service in reversed(started):
                try:
                    await service.close()
                except OSError as error:
                    log.warning("%s: %s", name, error)
                log.debug("%s closed", name)
            return
    log.error("shutdown took longer than %.0f s; leaving", STOP_TIMEOUT)
