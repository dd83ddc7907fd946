"""File operations that fail, one at a time, by Python's audit events.

::

    with failing(directory, 3, errno.EIO) as fault:     the third operation below directory
        ...                                             raises OSError, once
    fault.happened
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_FILES = ("chmod", "chown", "fsync", "link", "mkdir", "remove", "rename", "rmdir", "symlink")
_EVENTS = frozenset({"open", *(f"os.{name}" for name in (*_FILES, "utime"))})


def fsync(fd: int) -> None:
    """In place of ``os.fsync``, which tells no audit hook: may fail, and waits for no disk."""
    sys.audit("os.fsync", str(Path(f"/proc/self/fd/{fd}").readlink()))


@dataclass(slots=True)
class Fault:
    """The ``number``-th operation below ``below`` fails; later ones do not."""

    below: str
    number: int
    error: int = errno.EIO
    seen: int = 0
    what: str = ""  # it happened to this

    @property
    def happened(self) -> bool:
        """There were as many operations."""
        return bool(self.what)


class _Hook:
    """Audit hooks cannot be removed: there is one, which usually does nothing."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.installed = False

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        fault = self.fault
        if fault is None or event not in _EVENTS or fault.happened:
            return
        if not any(isinstance(a, str | Path) and str(a).startswith(fault.below) for a in args):
            return
        fault.seen += 1
        if fault.seen == fault.number:
            fault.what = f"{event} {args[0]}"
            raise OSError(fault.error, os.strerror(fault.error))


_HOOK = _Hook()


@contextmanager
def failing(below: Path, number: int, error: int = errno.EIO) -> Iterator[Fault]:
    """Let one operation fail."""
    if not _HOOK.installed:
        _HOOK.installed = True
        sys.addaudithook(_HOOK)
    _HOOK.fault = Fault(str(below), number, error)
    try:
        yield _HOOK.fault
    finally:
        _HOOK.fault = None
