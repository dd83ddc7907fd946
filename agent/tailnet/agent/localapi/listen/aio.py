"""The socket file of the LocalAPI: one daemon at a time, no stale socket in the way."""

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

from tailnet.agent.errors import UserError


class SocketFile:
    """A listening unix socket, and the lock file beside it that makes this daemon the only one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock: int | None = None
        self._listener: socket.socket | None = None

    def open(self) -> socket.socket:
        """Take the lock, remove a stale socket, listen (0666, in a directory of 0755).

        Raises:
            UserError: a daemon lives, or the system refuses.
            OSError: this process has too many open files.
        """
        try:
            if not self._path.parent.is_dir():
                self._path.parent.mkdir(parents=True)
                self._path.parent.chmod(0o755)  # whatever the umask
            self._take_lock()
            self._remove_stale()
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener = listener
            listener.setblocking(False)
            listener.bind(str(self._path))
            self._path.chmod(0o666)
            listener.listen(128)
        except OSError as error:
            self.close()
            if error.errno == errno.EMFILE:
                raise  # which no other path would help
            reason = os.strerror(error.errno) if error.errno else str(error)
            msg = f"cannot make the socket {self._path}: {reason}; choose another with --socket"
            raise UserError(msg) from None
        except UserError:
            self.close()
            raise
        return listener

    def close(self) -> None:
        """Remove socket and lock.  Idempotent."""
        if self._listener is not None:
            bound = bool(self._listener.getsockname())
            self._listener.close()
            self._listener = None
            if bound:
                self._path.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder removes the file as it leaves: what was locked may be gone by now.
            held = os.path.samestat(self._lock_path.stat(), os.fstat(fd))
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            os.close(fd)
            raise self._another()
        self._lock = fd

    def _remove_stale(self) -> None:
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            msg = f"{self._path} exists and is not a socket; remove it or choose another --socket"
            raise UserError(msg)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._path))
            except (ConnectionRefusedError, FileNotFoundError):
                self._path.unlink(missing_ok=True)
                return
        raise self._another()

    def _another(self) -> UserError:
        return UserError(
            f"another tailnetd is running (socket {self._path}); stop it, or give this one another "
            "--socket, --statedir and --tun"
        )
