"""``tnet debug capture`` on a host of each datapath, read back with ``tcpdump``.

::

    h1 (native datapath) ── h2 (pure Python datapath)
"""

import os
import signal
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import BIN, Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

BOTH = pytest.mark.parametrize("name", ["h1", "h2"])


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Both joined."""
    lab = make_lab(flat("h1", "h2"))
    lab.hosts["h1"].start()
    lab.hosts["h2"].start("--datapath=reference")
    for host in lab.hosts.values():
        host.up(AUTH_KEY)
    lab.wait_complete()
    return lab


def read(host: Host, path: Path) -> list[str]:
    """Pings in a capture, which may still be growing."""
    shown = host.exec("tcpdump", "-n", "-r", str(path), check=False).stdout
    return [line for line in shown.splitlines() if "echo re" in line]


def captured(host: Host, there: Host, name: str) -> list[str]:
    """What tcpdump says of three pings, each way, while a capture runs."""
    path = host.directory / f"{name}.pcapng"
    command = (BIN / "tnet", f"--socket={host.socket}", "debug", "capture", "-o", path)
    process = host.spawn(name, *command)
    until("the capture to begin", lambda: path.exists() and path.stat().st_size > 0, 10)
    assert host.tnet("debug", "capture", "-o", "-", check=False).stderr.count("already") == 1
    for address in (there.ipv4, there.ipv6):
        assert host.ping_os(address, count=3).lost == 0
    until("all of them", lambda: len(read(host, path)) >= 12, 10)
    os.kill(process.pid, signal.SIGINT)
    until("the capture to end", lambda: process.returncode == 0, 10)
    assert path.stat().st_mode & 0o777 == 0o600
    assert host.exec("tcpdump", "-n", "-r", str(path)).returncode == 0
    return read(host, path)


@BOTH
def test_pings_are_captured_both_ways(lab: Lab, name: str) -> None:
    """Every request and every answer, in the clear; another capture may follow."""
    host = lab.hosts[name]
    there = lab.hosts["h2" if name == "h1" else "h1"]
    for time in ("first", "second"):
        lines = captured(host, there, f"capture-{time}")
        for me, them in ((host.ipv4, there.ipv4), (host.ipv6, there.ipv6)):
            asked = [line for line in lines if f"{me} > {them}: ICMP" in line]
            answered = [line for line in lines if f"{them} > {me}: ICMP" in line]
            assert sum("echo request" in line for line in asked) == 3
            assert sum("echo reply" in line for line in answered) == 3
    assert "capture" not in host.tnet("debug", "drops").stdout
