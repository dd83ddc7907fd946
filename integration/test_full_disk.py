"""A node whose disk is full: what can be said is said, and nothing is lost.

::

    h1 ── bridge ── h2        the state directory of h1 is a file system of 256 KiB
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(150)]

ROOM = "size=256k,mode=0700"


@pytest.fixture
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    """Both joined; the disk has room as yet."""
    lab = make_lab(flat("h1", "h2"))
    state = lab.hosts["h1"].statedir
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", ROOM, "tmpfs", state], check=True)
    try:
        lab.join()
        lab.wait_complete()
        yield lab
    finally:
        lab.close()
        subprocess.run(["umount", state], check=True)


def fill(directory: Path) -> Path:
    """A file that leaves no byte of room."""
    ballast = directory / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert os.statvfs(directory).f_bavail == 0
    return ballast


def refused(host: Host, *words: str) -> None:
    """The command fails with one line that says why and what to do."""
    done = host.tnet(*words, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(host.statedir) in line
    assert line.endswith("No space left on device; free some space")


def test_a_full_disk_stops_no_packet_and_loses_no_word(lab: Lab) -> None:
    """Refused changes change nothing, a restart finds all that was, and room is all it takes."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    key = one.status()["Self"]["PublicKey"]
    ballast = fill(one.statedir)
    for words in (["set", "--shields-up"], ["set", "--hostname=other"]):
        refused(one, *words)
    assert one.status()["BackendState"] == "Running"
    assert two.ping_os(one.ipv4).lost == 0

    assert one.stop() == 0
    one.start()
    one.wait_running()
    assert one.status()["Self"]["PublicKey"] == key
    lab.wait_complete()
    assert two.ping_os(one.ipv4).received > 0
    refused(one, "set", "--shields-up")

    assert "free some space" in one.tnet("down").stderr
    assert one.status()["BackendState"] == "Stopped"
    refused(one, "up")

    ballast.unlink()
    one.tnet("up")
    one.tnet("set", "--hostname=other")
    assert one.stop() == 0
    one.start()
    one.wait_running()
    assert one.tnet("debug", "prefs").stdout.count('"other"') == 1
