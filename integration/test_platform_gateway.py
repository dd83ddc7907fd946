"""The gateway as a real kernel knows it."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from tests.support.platform_netns import ip, two_uplinks

from tailnet.platform.interface import Gateway
from tailnet.platform.linux.constants import BYPASS_MARK
from tailnet.platform.linux.gateway import LinuxGateways

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """Two uplinks without routes."""
    with two_uplinks("192.168"):
        yield


def at(n: int) -> Gateway:
    """The gateway of an uplink."""
    return Gateway(IPv4Address(f"192.168.{n}.1"), IPv4Address(f"192.168.{n}.2"))


async def test_without_a_default_route_there_is_none() -> None:
    """Nor with one that is no more than a link."""
    assert await LinuxGateways().gateway() is None
    ip("route", "add", "default", "dev", "eth0")
    assert await LinuxGateways().gateway() is None


async def test_the_default_route_with_the_smallest_metric_counts() -> None:
    """With our address on that link; when it goes, the other."""
    ip("route", "add", "default", "via", "192.168.1.1", "metric", "100")
    ip("route", "add", "default", "via", "192.168.2.1", "metric", "200")
    assert await LinuxGateways().gateway() == at(1)
    ip("link", "set", "eth0", "down")
    assert await LinuxGateways().gateway() == at(2)


async def test_the_tunnel_is_not_the_way_out() -> None:
    """With an exit node everything else goes there; the daemon's own packets do not."""
    ip("route", "add", "default", "via", "192.168.1.1")
    ip("route", "add", "default", "via", "192.168.2.1", "table", "52")
    ip("rule", "add", "fwmark", hex(BYPASS_MARK), "lookup", "main", "priority", "5210")
    ip("rule", "add", "lookup", "52", "priority", "5270")
    assert await LinuxGateways().gateway() == at(1)
