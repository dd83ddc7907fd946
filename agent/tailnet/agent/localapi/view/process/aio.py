"""The daemon's log, tasks and end, for the LocalAPI."""

import asyncio
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from tailnet.agent.errors import UserError
from tailnet.agent.tasks import dump, in_slices

ROOT = "tailnet"
MAX_WAITING = 1000  # lines of a log that nobody reads fast enough
FORMAT = logging.Formatter("%(levelname).1s %(name)s: %(message)s")

log = logging.getLogger("tailnet.notes")


class LogTap(logging.Handler):
    """The log from now on, as a stream of JSON lines; the oldest are lost if nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(FORMAT)
        self._lines: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._ready = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        logging.getLogger(ROOT).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Called by ``logging``, from any thread."""
        try:
            self._lines.append(msgspec.json.encode(_line(record, self.format(record))))
            self._loop.call_soon_threadsafe(self._ready.set)
        except (RuntimeError, ValueError, TypeError):
            self.handleError(record)

    async def read(self) -> bytes:
        """The lines that wait, at least one; empty at the end."""
        while not self._lines and not self._closed:
            self._ready.clear()
            await self._ready.wait()
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        return b"".join(line + b"\n" for line in lines)

    def close(self) -> None:
        """No more.  Idempotent."""
        self._closed = True
        self._ready.set()
        logging.getLogger(ROOT).removeHandler(self)
        super().close()


def _line(record: logging.LogRecord, text: str) -> dict[str, object]:
    """As upstream's log has it; ``v`` is 0 for what a user wants to know."""
    at = datetime.fromtimestamp(record.created, UTC)
    return {"client_time": at.isoformat(), "v": int(record.levelno < logging.INFO), "text": text}


class ProcessView:
    """What a caller may see of the process and do with it."""

    def __init__(self) -> None:
        self._restore: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._profiling = False

    def shutdown(self) -> None:
        """End as after SIGTERM, once this request is answered."""
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)

    def tasks(self) -> str:
        """Stacks of all tasks and threads."""
        return dump()

    async def processor_profile(self, seconds: float) -> bytes:
        """Where time goes, for ``go tool pprof``.

        Raises:
            UserError: there is a profile already.
        """
        from tailnet.agent.profiling.aio import record  # noqa: PLC0415 - seldom needed

        with self._profile():
            return await record(seconds)

    async def memory_profile(self, seconds: float) -> bytes:
        """What is in use, by kind; or of what is asked for within a time, by place.

        Raises:
            UserError: there is a profile already.
        """
        from tailnet.agent.profiling import heap  # noqa: PLC0415 - seldom needed

        begun = time.time_ns()
        with self._profile():
            if not seconds:
                return await in_slices(heap.by_kind(begun))
            heap.begin()
            try:
                await asyncio.sleep(seconds)
            finally:
                profile = heap.end(begun, time.time_ns() - begun)
            return profile

    @contextmanager
    def _profile(self) -> Iterator[None]:
        """One at a time: they slow everything down, and would see each other."""
        if self._profiling:
            msg = "there is a profile already; try again later"
            raise UserError(msg)
        self._profiling = True
        try:
            yield
        finally:
            self._profiling = False

    def note(self, text: str) -> None:
        """A line of another program, into the log."""
        log.info("%s", text)

    def log_in_detail(self, component: str, seconds: int) -> None:
        """Log one component in detail for so long; 0 ends that.

        Raises:
            UserError: there is none of that name.
        """
        prefix = f"{ROOT}."
        known = sorted(
            name.removeprefix(prefix)
            for name in logging.Logger.manager.loggerDict
            if name.startswith(prefix)
        )
        if component not in known:
            msg = f"unknown component {component[:64]!r}; there are {', '.join(known)}"
            raise UserError(msg)
        before = self._restore.pop(component, None)
        logger = logging.getLogger(prefix + component)
        level = logger.level
        if before is not None:
            level, timer = before
            timer.cancel()
        if not seconds:
            logger.setLevel(level)
            return
        logger.setLevel(logging.DEBUG)
        timer = asyncio.get_running_loop().call_later(seconds, self.log_in_detail, component, 0)
        self._restore[component] = level, timer

    def logtap(self) -> LogTap:
        """The log from now on."""
        return LogTap()
