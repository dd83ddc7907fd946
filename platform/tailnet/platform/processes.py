"""Runs programs whole: no start is left half-way, no end is waited for in vain.

asyncio's own ``Process`` waits for the pipes to be closed, which a service that the program has
started may hold for ever; and cancelled while it is being made, for pipes that are opened later.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, STDOUT
from typing import Any, NamedTuple, cast

MAX_OUTPUT = 64 << 10  # bytes that are kept
LAST_WORDS = 0.1  # seconds after its end in which what it said may still be in the pipe


class Ended(NamedTuple):
    """How a program ended.

    Attributes:
        status: exit code; negative: the signal that ended it.
        output: beginning of what it printed, errors included.
    """

    status: int
    output: bytes


class _Heard(asyncio.SubprocessProtocol):
    """What becomes of a program."""

    def __init__(self, most: int) -> None:
        loop = asyncio.get_running_loop()
        self._most = most
        self.output = bytearray()
        self.silent = loop.create_future()
        self.exited = loop.create_future()
        self.gone = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        del fd
        self.output += data[: self._most - len(self.output)]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        if fd == 1:
            self.silent.set_result(None)

    def process_exited(self) -> None:
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.gone.set_result(None)


_Making = asyncio.Task[tuple[asyncio.SubprocessTransport, _Heard]]


async def run(
    *command: str,
    feed: bytes = b"",
    most: int = MAX_OUTPUT,
    **options: Any,  # noqa: ANN401 - those of ``subprocess.Popen``
) -> Ended:
    """Run a program, in a session of its own, to its end.

    Cancelled, it is ended with its children; what it started in other sessions is left.

    Args:
        command: program and arguments.
        feed: its standard input.
        most: bytes of output that are kept; it may print more.
        options: as for ``subprocess.Popen``.

    Raises:
        OSError: it cannot be started.
    """
    loop = asyncio.get_running_loop()
    heard = _Heard(most)
    making = loop.create_task(
        loop.subprocess_exec(
            lambda: heard,
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            **options,
        )
    )
    try:
        transport, _ = await asyncio.shield(making)
        stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
        stdin.write(feed)
        stdin.close()
        await asyncio.shield(heard.exited)
        await asyncio.wait([heard.silent], timeout=LAST_WORDS)
    finally:
        await _end(making)
    return Ended(transport.get_returncode() or 0, bytes(heard.output))


async def _end(making: _Making) -> None:
    """End a program, if it was made, with its children, however often we are cancelled."""
    cancelled = await _insist(making)
    if not making.cancelled() and making.exception() is None:
        transport, heard = making.result()
        if transport.get_returncode() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            # Not closed before: that would take the status that asyncio's watcher waits for.
            cancelled |= await _insist(heard.exited)
        stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
        if stdin.get_write_buffer_size():  # a process in a session of its own may keep it open
            stdin.abort()
        transport.close()
        cancelled |= await _insist(heard.gone)
    if cancelled:
        raise asyncio.CancelledError


async def _insist(end: asyncio.Future[Any]) -> bool:
    """Wait, for what does not take long; true if somebody cancelled us meanwhile."""
    cancelled = False
    while not end.done():
        try:
            await asyncio.wait([end])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
