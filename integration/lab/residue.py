"""What a lab leaves on the machine while it runs, and its removal, by name only.

Everything of one lab begins with its tag, ``tnl<pid>-<n>``:

* directory ``/tmp/<tag>``: logs, state, sockets, and the ``/etc`` and ``/run`` of each machine; its
  lock is held as long as the lab lives;
* namespaces ``/run/netns/<tag>-*`` with all links, rules and processes inside;
* control sockets ``/run/wireguard/<tag>*.sock`` of wireguard-go, when a benchmark used it.

Removal needs no record of what was made: it looks for the tag.  So it also works for a lab that was
interrupted half-way or killed: the next one sweeps up after every lab whose lock is free.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from integration.lab.process import LabError, kill_and_wait, run

NETNS = Path("/run/netns")
WIREGUARD = Path("/run/wireguard")
_TAG = re.compile(r"tnl(\d+)-\d+")
_LABS_PER_PROCESS = 1000
_TRIES = 20  # to remove a directory, 0.1 s apart


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that end a program come after the block; start no program in it, it would be deaf."""
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Claim:
    """A tag of our own and its directory.

    Attributes:
        tag: ``tnl<pid>-<n>``.
        directory: mode 0700.
    """

    def __init__(self) -> None:
        fresh = Path(tempfile.mkdtemp(prefix=".tnl", dir=_temporary()))
        mark = fresh / ".claimed"
        mark.touch()  # never seen empty: a rename would take the place of an empty directory
        self._lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # before it has its name: never seen unlocked
        for number in range(_LABS_PER_PROCESS):
            self.tag = f"tnl{os.getpid()}-{number}"
            self.directory = _temporary() / self.tag
            if not self.directory.exists() and not list(NETNS.glob(f"{self.tag}-*")):
                with contextlib.suppress(OSError):
                    fresh.rename(self.directory)
                    return
        os.close(self._lock)
        mark.unlink()
        fresh.rmdir()
        msg = f"no free name left for a lab in {_temporary()}"
        raise LabError(msg)

    def release(self) -> None:
        """Remove everything that has our tag.  Calling it twice does no harm."""
        wipe(self.tag)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def processes_in(namespaces: list[Path]) -> list[int]:
    """Process ids whose network namespace is one of these."""
    wanted: set[tuple[int, int]] = set()
    for namespace in namespaces:
        with contextlib.suppress(OSError):
            seen = namespace.stat()
            wanted.add((seen.st_dev, seen.st_ino))
    found: list[int] = []
    for entry in Path("/proc").iterdir() if wanted else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                seen = (entry / "ns/net").stat()
                if (seen.st_dev, seen.st_ino) in wanted:
                    found.append(int(entry.name))
    return found


def processes_with_output_in(directory: Path) -> list[int]:
    """Process ids that write below ``directory``: they may not have entered a namespace yet."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "fd/2").readlink().is_relative_to(directory):
                    found.append(int(entry.name))
    return found


def wipe(tag: str) -> None:
    """Kill and remove everything of one lab."""
    namespaces = sorted(NETNS.glob(f"{tag}-*"))
    directory = _temporary() / tag
    for _ in range(3):  # a process may have forked meanwhile
        pids = {*processes_in(namespaces), *processes_with_output_in(directory)}
        if not pids - {os.getpid()}:
            break
        kill_and_wait(sorted(pids - {os.getpid()}))
    if namespaces:
        batch = "".join(f"netns delete {namespace.name}\n" for namespace in namespaces)
        run(["ip", "-force", "-batch", "-"], feed=batch, check=False)
    for _ in range(_TRIES):  # a program that had only just begun may still write there
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            break
        kill_and_wait(sorted({*processes_with_output_in(directory)} - {os.getpid()}))
        time.sleep(0.1)
    for leftover in WIREGUARD.glob(f"{tag}*.sock"):
        leftover.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _locked(directory: Path) -> bool:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def sweep() -> list[str]:
    """Remove what dead labs left; returns their tags."""
    tags: set[str] = set()
    for root in (_temporary(), NETNS):
        for entry in root.glob("tnl*"):
            if found := _TAG.match(entry.name):
                tags.add(found.group())
    swept = []
    for tag in sorted(tags):
        directory = _temporary() / tag
        try:
            dead = not _locked(directory)
        except FileNotFoundError:  # its directory is gone: believe the process id
            found = _TAG.match(tag)
            dead = found is not None and not _alive(int(found.group(1)))
        except (NotADirectoryError, PermissionError):
            continue
        if dead:
            wipe(tag)
            swept.append(tag)
    return swept
