"""The only place that creates a task outside a ``TaskGroup``."""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

from tailnet.agent.slices import Steps

T = TypeVar("T")

log = logging.getLogger("tailnet.tasks")


class Tasks:
    """Named background tasks of one object; none is lost, none fails in silence."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` until it ends; an exception is logged under ``name``."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed: %s", task.get_name(), error, exc_info=error)

    async def close(self) -> None:
        """Cancel everything and wait for it."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def in_slices(steps: Steps[T]) -> T:
    """Do long work, and let the event loop run at every stop.

    Cancelled at a stop, nothing more of the work is done.
    """
    try:
        while True:
            next(steps)
            await asyncio.sleep(0)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def dump() -> str:
    """What every task and thread of this process is at: files, lines and functions, no values."""
    out = []
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        out.append(f"task {task.get_name()}:")
        out += [_where(frame, frame.f_lineno) for frame in _awaited(task)]
    for ident, top in sys._current_frames().items():  # noqa: SLF001 - the documented way
        name = next((t.name for t in threading.enumerate() if t.ident == ident), "unknown")
        out.append(f"thread {name}:")
        out += [_where(frame, line) for frame, line in traceback.walk_stack(top)]
    return "\n".join(out) + "\n"


def _awaited(task: asyncio.Task[Any]) -> list[FrameType]:
    """From the task's coroutine to the innermost it waits in; ``get_stack`` knows only one."""
    found: list[FrameType] = []
    each: object = task.get_coro()
    while isinstance(frame := _frame(each), FrameType):
        found.append(frame)
        each = getattr(each, "cr_await", None) or getattr(each, "gi_yieldfrom", None)
    return found


def _frame(each: object) -> object:
    return getattr(each, "cr_frame", None) or getattr(each, "gi_frame", None)


def _where(frame: FrameType, line: int) -> str:
    code = frame.f_code
    return f"  {frame.f_globals.get('__name__', '?')}:{line} {code.co_qualname}"
