"""Sockets that stay out of the tunnel, on a real kernel."""

import socket
from collections.abc import Iterator

import pytest
from tests.support.platform_contract import BypassContract
from tests.support.platform_netns import ip, private_network

from tailnet.platform.interface import Bypass
from tailnet.platform.linux.bypass import LinuxBypass, read_default_device

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """An uplink with a default route, and a tunnel with a better one."""
    with private_network():
        ip("link", "set", "lo", "up")
        for name, far, net in (("eth0", "far0", 1), ("tailnet0", "far1", 2)):
            ip("link", "add", name, "type", "veth", "peer", "name", far)
            ip("link", "set", name, "up")
            ip("link", "set", far, "up")
            ip("address", "add", f"192.0.{net}.2/24", "dev", name)
            metric = "500" if name == "eth0" else "5"
            ip("route", "add", "default", "via", f"192.0.{net}.1", "metric", metric)
            ip("-6", "route", "add", "default", "dev", name, "metric", metric)
        yield


class TestMarks(BypassContract):
    """Where marks are allowed."""

    @pytest.fixture
    def bypass(self) -> Bypass:
        """Under test."""
        return LinuxBypass("tailnet0")

    def is_kept_out(self, bypass: Bypass, sock: socket.socket) -> bool:
        """It has the mark."""
        assert isinstance(bypass, LinuxBypass)
        assert bypass.uses_mark
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 0x80000


class TestDevices(BypassContract):
    """Where they are not."""

    @pytest.fixture
    def bypass(self) -> Bypass:
        """Under test."""
        return LinuxBypass("tailnet0", marks=False)

    def is_kept_out(self, bypass: Bypass, sock: socket.socket) -> bool:
        """It is bound to the uplink."""
        if sock.family == socket.AF_UNIX:
            return False
        bound = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        assert bound in {b"", b"eth0\0"}
        return bound != b""


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_default_device_has_the_smallest_metric(family: int) -> None:
    """The tunnel does not count."""
    assert read_default_device(family) == "tailnet0"
    assert read_default_device(family, "tailnet0") == "eth0"


def test_without_a_default_route_the_socket_is_cut_off() -> None:
    """Rather than in a loop."""
    ip("link", "set", "eth0", "down")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        LinuxBypass("tailnet0", marks=False).mark(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == b"lo\0"
