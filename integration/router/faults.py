"""Every request to the kernel, counted, and one of them made to fail.

Requests are what goes out by netlink, the questions about devices (``ioctl``) and writing of
settings (``/proc/sys``).  A failed one was never heard by the kernel, or it was carried out and the
answer got lost: both happen to programs, the second one when a receive buffer is full.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any
from unittest.mock import patch


class Loss(Enum):
    """What became of the request that failed."""

    UNHEARD = "unheard"
    UNANSWERED = "unanswered"  # of ioctl and settings this makes no difference


class Faults:
    """Fails one request, once.

    Args:
        at: the number of the request, from 1; 0 for none.
        loss: how.

    Attributes:
        seen: requests so far.
    """

    def __init__(self, at: int, loss: Loss = Loss.UNHEARD) -> None:
        self._at = at
        self._loss = loss
        self.seen = 0

    @property
    def hit(self) -> bool:
        """The request that was to fail has been made."""
        return self.seen >= self._at

    def _step(self, action: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
        self.seen += 1
        if self.seen != self._at:
            return action()
        if self._loss is Loss.UNANSWERED:
            action()
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    @contextmanager
    def injected(self) -> Iterator[None]:
        """For the calls inside, by any thread."""
        send, ioctl, write = socket.socket.send, fcntl.ioctl, Path.write_text

        def sending(sock: socket.socket, data: bytes, *flags: int) -> Any:  # noqa: ANN401
            if sock.family != socket.AF_NETLINK:
                return send(sock, data, *flags)
            return self._step(lambda: send(sock, data, *flags))

        def asking(*args: Any) -> Any:  # noqa: ANN401
            return self._step(lambda: ioctl(*args))

        def writing(path: Path, *args: Any, **more: Any) -> Any:  # noqa: ANN401
            if not path.is_relative_to("/proc/sys"):
                return write(path, *args, **more)
            return self._step(lambda: write(path, *args, **more))

        with (
            patch.object(socket.socket, "send", sending),
            patch("tailnet.platform.linux.netlink.ioctl", asking),
            patch.object(Path, "write_text", writing),
        ):
            yield
