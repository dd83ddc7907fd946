"""Puts a service's files on this host, and takes them away; nothing is written that is there."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tailnet.cli.errors import Failure
from tailnet.cli.services.catalogue import File

HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # noqa: S108 - from the units


def put(files: tuple[File, ...], root: Path, say: Callable[[str], None]) -> bool:
    """Write what is missing or different below ``root``; whether anything was."""
    changed = False
    for file in files:
        path = below(root, file.path)
        try:
            there = path.read_text(encoding="utf-8") if path.exists() else None
            if there == file.text or (file.theirs and there is not None):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(path.name + ".new")
            fresh.write_text(file.text, encoding="utf-8")
            fresh.chmod(0o644)
            fresh.replace(path)
        except OSError as error:
            msg = f"cannot write {path}: {error.strerror or error}"
            raise Failure(msg) from None
        say(f"wrote {path}")
        changed = True
    return changed


def take_away(files: tuple[File, ...], root: Path, say: Callable[[str], None]) -> None:
    """Remove them; what people changed is theirs, and stays."""
    for file in files:
        path = below(root, file.path)
        try:
            if file.theirs and path.exists() and path.read_text(encoding="utf-8") != file.text:
                say(f"left {path}, which was changed")
                continue
            path.unlink()
            if path.parent.name.endswith(".d") and not any(path.parent.iterdir()):
                path.parent.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            msg = f"cannot remove {path}: {error.strerror or error}"
            raise Failure(msg) from None
        say(f"removed {path}")


def purge(state: PurePosixPath, root: Path, say: Callable[[str], None]) -> None:
    """Remove keys and settings, for good."""
    path = below(root, state)
    if path.exists():
        shutil.rmtree(path)
        say(f"removed {path}")


def below(root: Path, path: PurePosixPath) -> Path:
    """Where an absolute path is in another root."""
    return root / path.relative_to("/")


def check_programs(binaries: Path) -> None:
    """The service must find its program, inside its sandbox, too.

    Raises:
        Failure: it would not.
    """
    program = binaries / "tailnetd"
    if not os.access(program, os.X_OK):
        msg = f"there is no {program}; install tailnetd and tnet in one place"
        raise Failure(msg)
    if f"{program.resolve()}/".startswith(HIDDEN):
        msg = (
            f"{program} is where a service cannot see it; install it elsewhere, such as below /opt"
        )
        raise Failure(msg)


class Systemctl:
    """The running systemd, the system's or a user's."""

    def __init__(self, *, user: bool) -> None:
        self._words = ["systemctl", *(["--user"] if user else [])]

    def check(self) -> None:
        """It must be there.

        Raises:
            Failure: it is not.
        """
        if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
            msg = (
                "this host is not run by systemd; for another service manager: "
                "tnet install --print openrc"
            )
            raise Failure(msg)

    def __call__(self, *arguments: str) -> None:
        """Do it.

        Raises:
            Failure: systemd refused, in its words.
        """
        done = run([*self._words, *arguments])
        if done.returncode != 0:
            said = done.stderr.strip() or f"exit code {done.returncode}"
            msg = f"{' '.join([*self._words, *arguments])}: {said}"
            raise Failure(msg)

    def quietly(self, *arguments: str) -> None:
        """Do it if it can be done."""
        _ = run([*self._words, *arguments])


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    """A program to its end, with its output."""
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    except OSError as error:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: {error.strerror}")
