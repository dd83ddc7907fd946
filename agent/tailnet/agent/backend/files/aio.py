"""Files of the backend: the state, written as a whole or not at all, and the configuration."""

import contextlib
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tailnet.agent.backend.config import MAX_CONFIG, Config, parse_config
from tailnet.agent.backend.keyfiles.aio import key_or_file
from tailnet.agent.backend.seal import Seal, WrongKey, is_sealed
from tailnet.agent.backend.store import (
    MAX_STATE,
    RandomBytes,
    Stored,
    decode_untrusted,
    encode,
    fresh,
)
from tailnet.agent.errors import BadPacket, UserError

PURPOSE = "tailnetd state"  # separates its key from those of other files
MAX_FILE = MAX_STATE + (1 << 20)  # bytes; sealed it is a little longer
FILE_MODE = 0o600
DIR_MODE = 0o700


class StateStore(Protocol):
    """Where the state is.

    Attributes:
        path: ``None`` if it ends with the process; the node is then an ephemeral one.
        problem: why the last attempt to save failed; empty when it did not.
    """

    problem: str
    seal: Seal | None
    """What its files are encrypted with."""
    stale: bool
    """What was loaded is not in the form that ``save`` gives it: save it soon."""

    @property
    def path(self) -> Path | None:
        """Of the file."""

    def load(self, random_bytes: RandomBytes) -> Stored:
        """What is there; raises ``UserError``."""

    def save(self, stored: Stored) -> None:
        """Replace it; raises ``UserError``."""


class StateMemory:
    """Forgets everything at the end: ``--state=mem:``."""

    path = None
    problem = ""
    seal: Seal | None = None
    stale = False

    def load(self, random_bytes: RandomBytes) -> Stored:
        """A new installation."""
        return fresh(random_bytes)

    def save(self, stored: Stored) -> None:
        """Nothing to do."""


class StateFile:
    """Loads and saves :class:`Stored`; one process at a time (the LocalAPI socket sees to that)."""

    def __init__(self, path: Path, seal: Seal | None = None) -> None:
        """``seal``: what the file is encrypted with whenever it is saved."""
        self._path = path
        self.seal = seal
        self.stale = False
        self.problem = ""
        """Why the last attempt to save failed; empty when it did not."""

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    def load(self, random_bytes: RandomBytes) -> Stored:
        """Read the file; without one, a fresh state that is not saved yet.

        Raises:
            UserError: it cannot be read, or is damaged; it is left as it is.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return fresh(random_bytes)
        except OSError as error:
            msg = f"cannot read the state file {self._path}: {_reason(error)}"
            raise UserError(msg) from None
        try:
            stored = decode_untrusted(self._opened(data), random_bytes)
        except WrongKey:
            msg = f"the state file {self._path} is encrypted with another key; nothing was touched"
            raise UserError(msg) from None
        except BadPacket as error:
            msg = (
                f"the state file {self._path} is damaged ({error}); it was left untouched: "
                "restore it from a backup, or move it away and log in again"
            )
            raise UserError(msg) from None
        self.stale = self.seal is not None and not is_sealed(data)
        return stored

    def _opened(self, data: bytes) -> bytes:
        if not is_sealed(data):
            return data
        if self.seal is None:
            msg = (
                f"the state file {self._path} is encrypted: "
                "say where its key is, with --state-key; nothing was touched"
            )
            raise UserError(msg)
        return self.seal.open_untrusted(data, PURPOSE)

    def save(self, stored: Stored) -> None:
        """Replace the file; when this returns it is on disk.

        Blocks for as long as the disk takes.

        Raises:
            UserError: it cannot be written; the old file is intact.
        """
        data = encode(stored)
        if self.seal is not None:
            data = b"".join(self.seal.seal((data,), PURPOSE))
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            self._path.parent.mkdir(mode=DIR_MODE, parents=True, exist_ok=True)
            try:
                _write(temporary, data)
                temporary.replace(self._path)
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            _sync_directory(self._path.parent)
        except OSError as error:
            self.problem = f"cannot write the state file {self._path}: {_reason(error)}"
            raise UserError(self.problem) from None
        self.problem, self.stale = "", False


class ConfigFile:
    """The configuration file, read whenever asked.

    Args:
        spec: a path; with ``optional:`` before it, the file may be missing.
    """

    def __init__(self, spec: str) -> None:
        self._optional = spec.startswith("optional:")
        self._path = Path(spec.removeprefix("optional:"))

    def load(self) -> Config | None:
        """Read it; ``None`` if it is missing and may be.

        Raises:
            UserError: it cannot be read, or says something wrong.
        """
        try:
            with self._path.open("rb") as file:
                config = parse_config(file.read(MAX_CONFIG + 1))
                _check_owner(config, os.fstat(file.fileno()).st_mode)
            return replace(config, auth_key=key_or_file(config.auth_key))
        except FileNotFoundError as error:
            if self._optional and error.filename == str(self._path):
                return None
            msg = f"cannot read the configuration file {error.filename}: {_reason(error)}"
            raise UserError(msg) from None
        except OSError as error:
            msg = f"cannot read the configuration file {self._path}: {_reason(error)}"
            raise UserError(msg) from None
        except UserError as error:
            msg = f"the configuration file {self._path}: {error}"
            raise UserError(msg) from None


def _check_owner(config: Config, mode: int) -> None:
    """Whoever can write the file can have commands run, so that must be its owner alone.

    Raises:
        UserError: it is not.
    """
    if config.hooks and mode & 0o022:
        msg = "it has Hooks, and others can write it; do: chmod go-w"
        raise UserError(msg)


def _write(path: Path, data: bytes) -> None:
    """Write a file of our own making: an old one, or a link planted there, is removed first."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _reason(error: OSError) -> str:
    text = os.strerror(error.errno) if error.errno else str(error)
    return f"{text}; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else text
