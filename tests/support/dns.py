"""Directories that have an ``/etc/resolv.conf`` of every kind."""

import contextlib
import os
from pathlib import Path

KINDS = ["file", "link", "dangling", "missing", "empty", "odd mode"]
TEXT = "nameserver 10.0.0.1\nsearch lan.example\noptions ndots:5\n"


def make(root: Path, kind: str) -> None:
    """Make one."""
    etc = root / "etc"
    etc.mkdir()
    path = etc / "resolv.conf"
    match kind:
        case "file":
            path.write_text(TEXT)
        case "link":
            (root / "run").mkdir()
            (root / "run/stub.conf").write_text(TEXT)
            path.symlink_to("../run/stub.conf")
        case "dangling":
            path.symlink_to("../run/stub.conf")
        case "empty":
            path.touch()
        case "odd mode":
            path.write_text(TEXT)
            path.chmod(0o600)


def look(root: Path) -> dict[str, object]:
    """Everything in ``etc``, and ``resolv.conf`` even if it is not there.

    What is being replaced at this moment is left out.
    """
    found: dict[str, object] = {"resolv.conf": None}
    for path in (root / "etc").iterdir():
        with contextlib.suppress(FileNotFoundError):
            info = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes()
            found[path.name] = (info.st_ino, info.st_mode, info.st_mtime_ns, content)
    return found
