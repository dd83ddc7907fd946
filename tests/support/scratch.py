"""Where tests write: in memory, where it has room; a disk keeps them waiting, and keeps nothing."""

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # shm_overview(7); open to everybody, as /tmp is
ENOUGH = 1 << 30  # bytes; a lab's machine takes 5 MB, a browser 100
REFUSED = os.ST_NOEXEC | os.ST_NODEV  # as in a container; the labs' machines need both


def in_memory(memory: Path = MEMORY) -> bool:
    """Whether temporary files can be there; also of the programs that tests start."""
    try:
        found = os.statvfs(memory)
    except OSError:
        return False
    room = found.f_bavail * found.f_frsize
    return room >= ENOUGH and not found.f_flag & REFUSED and os.access(memory, os.W_OK | os.X_OK)


def prefer_memory() -> None:
    """For this process and its children, unless TMPDIR says where."""
    if "TMPDIR" not in os.environ and in_memory():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # may have been asked before
