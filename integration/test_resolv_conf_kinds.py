"""An ``/etc/resolv.conf`` that is not what it should be: said, left alone, and names are answered.

::

    h1, whose file is of every odd kind ── bridge: control, DERP ── h2, which has a name
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.private import root_of
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

LAN = "nameserver 10.99.0.1\n"


def link(path: Path) -> None:
    """To nothing."""
    path.symlink_to("../run/nothing.conf")


def immutable(path: Path) -> None:
    """Where the file system has such a flag."""
    path.write_text(LAN)
    if subprocess.run(["chattr", "+i", path], check=False, capture_output=True).returncode:
        pytest.skip("this file system has no immutable files")


def huge(path: Path) -> None:
    """A log that somebody wrote to the wrong place."""
    path.write_text(LAN + "# noise\n" * 5000)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "dangling link": (link, ""),
    "empty": (Path.touch, ""),
    "lines of Windows": (lambda path: path.write_bytes(b"nameserver 10.99.0.1\r\n"), ""),
    "directory": (Path.mkdir, "Is a directory; move it away"),
    "huge": (huge, "is longer than 10 KiB"),
    "immutable": (immutable, "is it immutable?"),
}
"""How it is made, and what is said; nothing: it works."""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Both have joined; h1's daemon is stopped."""
    lab = make_lab(flat("h1", "h2"))
    for host in lab.hosts.values():
        host.start()
        host.up(AUTH_KEY)
    until("they see each other", lambda: lab.hosts["h1"].peer("h2"), 20)
    lab.hosts["h1"].stop()
    return lab


def snapshot(etc: Path) -> dict[str, object]:
    """What lies there."""
    found: dict[str, object] = {}
    for path in etc.iterdir():
        info = path.lstat()
        found[path.name] = (info.st_ino, info.st_mode, info.st_mtime_ns)
    return found


def answers(host: Host, peer: Host) -> bool:
    """Our resolver knows the peer, by its address and without the host's file."""
    command = ("dig", "+short", "+tries=1", "+timeout=2", "@100.100.100.100", "h2.lab.ts.net")
    return host.exec(*command, check=False).stdout == f"{peer.ipv4}\n"


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_said_left_alone_and_names_are_answered(lab: Lab, kind: str) -> None:
    """And after the stop everything is as it was."""
    here, (make, said) = lab.hosts["h1"], KINDS[kind]
    root = root_of(here.namespace)
    assert root is not None
    etc = root / "etc"
    path = etc / "resolv.conf"
    path.unlink(missing_ok=True)
    make(path)
    before = snapshot(etc)
    try:
        here.start()
        here.wait_running()
        until("the peer's name", lambda: answers(here, lab.hosts["h2"]), 15)
        if said:
            told = lambda: any(said in line for line in here.status()["Health"] or ())  # noqa: E731
            until("the warning", told, 15)
            assert snapshot(etc) == before
        else:
            ours = lambda: "100.100.100.100" in path.read_text()  # noqa: E731
            until("our file", ours, 10)
            assert not here.status()["Health"]
        here.stop()
        assert snapshot(etc) == before
    finally:
        subprocess.run(["chattr", "-i", path], check=False, capture_output=True)
        if here.daemon is not None and here.daemon.returncode is None:
            here.kill9()
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
