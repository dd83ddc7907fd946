"""Which device is the default, and what happens when the system refuses."""

import errno
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.linux.bypass import (
    LinuxBypass,
    parse_ipv4_routes,
    parse_ipv6_routes,
    read_default_device,
)

ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t00000000\t0201\t0\t0\t1\t00000000\t0\t0\t0
eth2\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
NOTHING = "0" * 32
ROUTE6 = f"""\
{NOTHING} 00 {NOTHING} 00 fe80{"0" * 27}1 00000400 00000001 00000000 00000003    wlan0
fd7a115ca1e0{"0" * 20} 30 {NOTHING} 00 {NOTHING} 00000400 00000001 00000000 00000001     tun0
{NOTHING} 00 {NOTHING} 00 {NOTHING} ffffffff 00000001 00000000 00200200       lo
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A host with three uplinks and a tunnel."""
    (tmp_path / "route").write_text(ROUTE)
    (tmp_path / "ipv6_route").write_text(ROUTE6)
    return tmp_path


def test_smallest_metric_wins(proc: Path) -> None:
    """The tunnel and unreachable routes do not count."""
    assert read_default_device(socket.AF_INET, "tun0", proc) == "eth0"
    assert read_default_device(socket.AF_INET, "", proc) == "tun0"


def test_ipv6_has_its_own_default(proc: Path) -> None:
    """Else that of IPv4."""
    assert read_default_device(socket.AF_INET6, "tun0", proc) == "wlan0"
    (proc / "ipv6_route").unlink()
    assert read_default_device(socket.AF_INET6, "tun0", proc) == "eth0"


def test_no_routes_no_device(tmp_path: Path) -> None:
    """Nor any error."""
    assert read_default_device(socket.AF_INET6, "tun0", tmp_path) is None


@given(st.text())
def test_strange_tables_are_read(text: str) -> None:
    """Lines of fewer words are none."""
    assert parse_ipv4_routes("header\n" + text.replace("0", "")) == []
    assert parse_ipv6_routes(text.replace("0", "")) == []


class Refusing(socket.socket):
    """A socket on a system without permission."""

    tried: list[int]

    def setsockopt(self, level: int, option: int, *value: object) -> None:
        """Never."""
        self.tried = [*getattr(self, "tried", []), option]
        raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("marks", [True, False])
def test_refusal_is_told_once(caplog: pytest.LogCaptureFixture, *, marks: bool) -> None:
    """And the socket goes on without."""
    bypass = LinuxBypass(marks=marks, default_device=lambda _: "eth0")
    with Refusing() as sock:
        bypass.mark(sock)
        bypass.mark(sock)
        assert len(sock.tried) == 2
    assert caplog.text.count("own traffic may enter the tunnel") == 1


@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", "127.8.8.8"])
def test_loopback_needs_no_bypass(remote: str) -> None:
    """Nor would it work through a device."""
    with Refusing() as sock:
        LinuxBypass(marks=False).mark(sock, remote)
        assert not hasattr(sock, "tried")


@pytest.mark.parametrize("remote", ["192.0.2.1", "name.example", None])
def test_any_other_destination_does(remote: str | None) -> None:
    """Also one that is not known yet."""
    with Refusing() as sock:
        LinuxBypass(marks=False).mark(sock, remote)
        assert sock.tried == [socket.SO_BINDTODEVICE]
