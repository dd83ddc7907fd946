"""A machine's own ``/etc`` and ``/run``, so that nothing a test does is done to the real ones.

::

    /tmp/<tag>/<name>.root/
        etc/      a copy of ours, but for hosts, resolv.conf and nsswitch.conf
        run/      empty
        enter     mounts both in a mount namespace of its own, then becomes the program it is given

Every program of a machine is started through ``enter``.  The mounts go with the program; what is
written stays in the two directories, which the next program sees, and which go with the lab.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

_OF_A_LAB = re.compile(r"(tnl\d+-\d+)-([a-z][a-z0-9]*)")
_SWITCH = "hosts: files dns\n"
# No name server: a question is refused at once instead of leaving the lab.
_RESOLV_CONF = "options timeout:1 attempts:1\n"
_LAST = 'exec "$@"\n'


def root_of(namespace: str) -> Path | None:
    """Where the files of a lab's machine are; ``None`` for a namespace of another kind."""
    found = _OF_A_LAB.fullmatch(namespace)
    if found is None:
        return None
    return Path(tempfile.gettempdir(), found.group(1), f"{found.group(2)}.root")


def make(namespace: str, hosts: str) -> None:
    """The files of a machine.

    Args:
        namespace: of a lab.
        hosts: text of its ``/etc/hosts``.
    """
    root = root_of(namespace)
    if root is None:
        msg = f"{namespace} is not of a lab"
        raise ValueError(msg)
    root.mkdir()
    etc, run = root / "etc", root / "run"
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    shutil.rmtree(etc / "netns", ignore_errors=True)
    for name, text in (("hosts", hosts), ("resolv.conf", _RESOLV_CONF), ("nsswitch.conf", _SWITCH)):
        (etc / name).unlink(missing_ok=True)
        (etc / name).write_text(text)
    for directory in (run, run / "lock", run / "dbus"):
        directory.mkdir()
        directory.chmod(0o755)
    mounts = (f"mount --bind '{source}' /{source.name} || exit 120\n" for source in (etc, run))
    (root / "enter").write_text("".join(("#!/bin/sh\n", *mounts, _LAST)))


def add_mount(namespace: str, arguments: str) -> None:
    """One more ``mount ARGUMENTS`` for all programs that start from now on."""
    root = root_of(namespace)
    if root is None:
        msg = f"{namespace} is not of a lab"
        raise ValueError(msg)
    enter = root / "enter"
    text = enter.read_text().removesuffix(_LAST)
    enter.write_text(f"{text}mount {arguments} || exit 120\n{_LAST}")


def enter_words(namespace: str) -> list[str]:
    """What to put in front of a command line, inside the namespace, to see the private files."""
    root = root_of(namespace)
    if root is None or not root.is_dir():
        return []
    return ["sh", str(root / "enter")]
