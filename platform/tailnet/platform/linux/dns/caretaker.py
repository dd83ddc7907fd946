"""Somebody who puts the host's DNS back when the daemon no longer can: killed, crashed, too big.

::

    daemon ── pipe ──► sh, reading ── a line: the daemon did it itself ──► ends
                          └────────── end of file: it is dead ──► this module ──► cleanup, ends

While it waits it is a shell, of less than a megabyte.  A new daemon that is there already is in
charge, and nothing is done: it holds the lock, an abstract socket, which goes with its process.

Run as ``python -m tailnet.platform.linux.dns.caretaker ROOT``.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.dns.restore import cleanup

log = logging.getLogger("tailnet.platform")

_WAIT = 'read -r _ && exit 0; exec "$@"'
_PATIENCE = 5.0  # seconds that a caretaker of the daemon before may still be at work
_POLL = 0.05  # seconds


def _take_lock(root: Path) -> socket.socket | None:
    """The right to this ``/etc``; another container on the same network has one of its own."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        etc = (root / "etc").stat()
        lock.bind(f"\0tailnetd-dns:{etc.st_dev}:{etc.st_ino}")
    except OSError:
        lock.close()
        return None
    return lock


class Caretaker:
    """Belongs to one daemon, which takes office with :meth:`begin`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._lock: socket.socket | None = None
        self._process: Process | None = None
        self._line: socket.socket | None = None  # it waits at the other end

    async def begin(self) -> None:
        """From now on the host's DNS is ours; one that tidies up after a dead daemon ends first."""
        for _ in range(int(_PATIENCE / _POLL)):
            if self.try_begin():
                return
            await asyncio.sleep(_POLL)
        log.warning("DNS: another tailnetd of this host configures it")

    def try_begin(self) -> bool:
        """The same at once; whether it is ours."""
        if self._lock is None:
            self._lock = _take_lock(self._root)
        return self._lock is not None

    async def hire(self) -> None:
        """Something will have to be put back.  Idempotent."""
        if self._process is not None and self._process.returncode is None:
            return
        command = (sys.executable, "-I", "-m", __name__, str(self._root))
        mine, its = socket.socketpair()
        try:
            # No pipes of asyncio's: cancelled here, it would wait for ever to open them.
            self._process = await asyncio.create_subprocess_exec(
                *("sh", "-c", _WAIT, "sh", *command),
                stdin=its.fileno(),
                stdout=DEVNULL,
                start_new_session=True,
            )
        except BaseException as error:
            mine.close()
            if not isinstance(error, OSError):
                raise
            log.warning("DNS: nobody puts it back if tailnetd is killed: %s", error)
        else:
            self._hang_up()
            self._line = mine
        finally:
            its.close()

    async def dismiss(self) -> None:
        """Everything was put back.  Idempotent."""
        process, self._process = self._process, None
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.send(b"\n")
        self._hang_up()
        if process is not None:
            await process.wait()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def end(self) -> None:
        """It is no longer ours.  Idempotent."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def main() -> int:
    """After the death of a daemon."""
    logging.basicConfig(level=logging.INFO, format="tailnetd: %(message)s")
    root = Path(sys.argv[1])
    lock = _take_lock(root)
    if lock is None:
        return 0
    with contextlib.closing(lock):
        try:
            done = asyncio.run(cleanup(root))
        except PlatformError as error:
            log.error("%s", error)  # noqa: TRY400 - one line for a person
            return 1
    for line in done:
        log.info("it was killed; %s", line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
