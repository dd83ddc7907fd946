"""``/etc/resolv.conf`` replaced by a file of ours, and put back.

::

                 /etc/resolv.conf                      …/resolv.conf.before-tailnetd
    before       theirs: a file, a link, or nothing
    meanwhile    ours, with a mark                     theirs
    after        theirs, the very same

At no time is there no file, and whatever step was the last before a crash, the next start ends in
"before".  Where the file itself is mounted, as in containers, it cannot be renamed and is written
in place instead.

Source: tailscale net/dns/direct.go.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailnet.platform.interface import NO_DNS, DnsConfig, PlatformError
from tailnet.platform.linux.dns.text import (
    MARK,
    MAX_SIZE,
    NOTHING_BEFORE,
    OTHER_MARK,
    parse,
    render,
    says_at_top,
)

log = logging.getLogger("tailnet.platform")

_MODE = 0o644
_HINTS = {
    errno.EPERM: "; is it immutable? See: lsattr /etc/resolv.conf",
    errno.EROFS: "; in a unit of systemd this needs ReadWritePaths=/etc",
    errno.EISDIR: "; move it away, and names of the tailnet resolve",
}
_MOUNTED = {errno.EBUSY, errno.EXDEV}  # what renaming or linking a mounted file gives


class ResolvConfFile:
    """The file of the host whose root directory is ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.path = root / "etc/resolv.conf"
        self.backup = root / "etc/resolv.conf.before-tailnetd"
        self._fresh = root / "etc/.resolv.conf.tailnetd"
        self._other_backup = root / "etc/resolv.pre-tailscale-backup.conf"

    def before(self) -> str | None:
        """Text of the file as it was before us; ``None`` if there was none.

        Raises:
            PlatformError: it cannot be read.
        """
        path = self.backup if self.is_ours() else self.path
        text = _read(path)
        if text is not None and len(text) > MAX_SIZE:
            line = f"{path} is longer than {MAX_SIZE >> 10} KiB, which no list of resolvers is"
            raise PlatformError(line)
        return text

    def base(self) -> DnsConfig:
        """Whom it sent questions to, without us.

        Raises:
            PlatformError: it cannot be read.
        """
        return parse(self.before() or "").without_us()

    def is_ours(self) -> bool:
        """Whether we wrote what is there now.

        Raises:
            PlatformError: it cannot be read, so nobody knows.
        """
        if self.path.is_symlink() or self.path.is_dir():
            return False
        return says_at_top(_read(self.path) or "", MARK)

    def is_as_written(self, text: str) -> bool:
        """Whether the file says exactly this."""
        return not self.path.is_symlink() and _read(self.path) == text

    def text_for(self, config: DnsConfig) -> str:
        """What :meth:`write` would write."""
        before = self.before()
        said = f"It comes back from {self.backup.name}" if before is not None else NOTHING_BEFORE
        if before is None and os.path.lexists(self.backup if self.is_ours() else self.path):
            said = f"It was a link to nothing, which comes back from {self.backup.name}"
        comment = (
            f"{MARK}, which answers for the names of the tailnet and passes on all others.\n"
            f"{said} when tailnetd stops.\n"
            "To keep it: tnet set --accept-dns=false"
        )
        return render(config, options=parse(before or "").options, comment=comment)

    def write(self, config: DnsConfig) -> str:
        """Replace the file, or put it back for ``NO_DNS``; the text that is now ours.

        Raises:
            PlatformError: the system refused; everything is as it was.
        """
        if config == NO_DNS:
            self.restore()
            return ""
        text = self.text_for(config)
        if self.is_as_written(text):
            return text
        with _told(f"cannot change {self.path}"):
            ours = self.is_ours()
            try:
                if not ours:
                    self._save()
                self._put(text)
            except OSError:
                if not ours and not self.is_ours():  # written in place, the copy is all there is
                    self.backup.unlink(missing_ok=True)
                raise
        return text

    def restore(self) -> bool:
        """Put back what was there; true if there was something to do.

        What somebody else wrote meanwhile stays.

        Raises:
            PlatformError: the system refused.
        """
        with _told(f"cannot restore {self.path}"):
            self._fresh.unlink(missing_ok=True)
            saved = os.path.lexists(self.backup)
            if not self.is_ours() and os.path.lexists(self.path):
                self.backup.unlink(missing_ok=True)
                return saved
            if saved:
                self._put_back(self.backup)
                return True
            if not self.is_ours():
                return False
            if not says_at_top(_read(self.path) or "", NOTHING_BEFORE):
                log.warning("%s is gone; %s is removed without it", self.backup, self.path)
            self._remove()
            return True

    def restore_other(self) -> bool:
        """The same for a file of the original agent, which must not run."""
        text = _read(self.path)
        if text is None or self.path.is_symlink() or not says_at_top(text, OTHER_MARK):
            return False
        if not os.path.lexists(self._other_backup):
            return False
        with _told(f"cannot restore {self.path}"):
            self._put_back(self._other_backup)
        return True

    def _save(self) -> None:
        """A second name for what is there, so that there is never no file."""
        self.backup.unlink(missing_ok=True)
        if not os.path.lexists(self.path):
            return
        try:
            self.backup.hardlink_to(self.path)  # of a link, the link itself
        except OSError as error:
            if error.errno not in _MOUNTED | {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
                raise
            if self.path.is_symlink():
                _copy_link(self.path, self.backup)
            else:
                _copy(self.path, self.backup)

    def _put(self, text: str) -> None:
        try:
            _write(self._fresh, text.encode())
            self._fresh.replace(self.path)
        except OSError as error:
            self._fresh.unlink(missing_ok=True)
            if error.errno not in _MOUNTED:
                raise
            _overwrite(self.path, text.encode())

    def _put_back(self, saved: Path) -> None:
        try:
            saved.replace(self.path)
        except OSError as error:
            if error.errno not in _MOUNTED:
                raise
            _overwrite(self.path, saved.read_bytes())
            saved.unlink()

    def _remove(self) -> None:
        try:
            self.path.unlink()
        except OSError as error:
            if error.errno not in _MOUNTED:
                raise
            _overwrite(self.path, b"")


def _read(path: Path) -> str | None:
    """Text; ``None`` if there is no file, or a link to nowhere."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIZE + 1).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        line = f"cannot read {path}: {error.strerror}{_HINTS.get(error.errno or 0, '')}"
        raise PlatformError(line) from error


def _write(path: Path, data: bytes, mode: int = _MODE) -> None:
    """A new file, on the disk, that everybody may read whatever the umask is."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(fd, mode)
        os.fsync(fd)


def _copy(path: Path, to: Path) -> None:
    """With owner, mode and times."""
    info = path.stat()
    _write(to, path.read_bytes(), info.st_mode & 0o7777)
    if (info.st_uid, info.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(to, info.st_uid, info.st_gid)
    os.utime(to, ns=(info.st_atime_ns, info.st_mtime_ns))


def _copy_link(path: Path, to: Path) -> None:
    """With its times."""
    info = path.lstat()
    to.symlink_to(path.readlink())
    os.utime(to, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def _overwrite(path: Path, data: bytes) -> None:
    """In place: whoever reads just then sees part of it.  After an error it is as before."""
    before = path.read_bytes()
    try:
        _fill(path, data)
    except OSError:
        with contextlib.suppress(OSError):
            _fill(path, before)
        raise


def _fill(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except PlatformError:
        raise
    except OSError as error:
        line = f"{what}: {error.strerror}{_HINTS.get(error.errno or 0, '')}"
        raise PlatformError(line) from error
