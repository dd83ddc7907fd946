"""A host with rules and routes of other people.

::

    host ── eth0 (veth) 192.0.2.2/24, default via 192.0.2.1
         └─ tailnet0 (TUN)
"""

from collections.abc import Iterator

import pytest
from integration.router.kernel import TUN
from tests.support.platform_netns import ip, private_network, snapshot

from tailnet.platform.interface import Router
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import LinuxTun, open_tun


@pytest.fixture
def host() -> Iterator[None]:
    """A host with an uplink and with what an administrator or another VPN may have set."""
    with private_network():
        ip("link", "set", "lo", "up")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "far0")
        ip("link", "set", "eth0", "up", "addrgenmode", "none")
        ip("link", "set", "far0", "up", "addrgenmode", "none")
        ip("address", "add", "192.0.2.2/24", "dev", "eth0")
        ip("address", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad")
        ip("route", "add", "default", "via", "192.0.2.1")
        ip("-6", "route", "add", "default", "via", "2001:db8:1::1")
        for family in ("-4", "-6"):
            ip(family, "rule", "add", "pref", "5200", "fwmark", "0x1", "lookup", "99")
            ip(family, "rule", "add", "pref", "5270", "iif", "lo", "fwmark", "0x2", "lookup", "52")
        ip("rule", "add", "pref", "5260", "to", "192.0.2.0/24", "lookup", "main")
        ip("rule", "add", "pref", "5210", "from", "203.0.113.0/24", "lookup", "main")
        ip("rule", "add", "pref", "5300", "lookup", "99")
        ip("route", "add", "198.51.100.0/24", "dev", "eth0", "table", "99", "proto", "186")
        ip("route", "add", "198.51.100.0/24", "dev", "eth0", "proto", "186")
        yield


@pytest.fixture
def pristine(host: None) -> str:
    """What was there before the tunnel."""
    return snapshot()


@pytest.fixture
def tun(pristine: str) -> Iterator[LinuxTun]:
    """The tunnel's device, open."""
    tun = open_tun(TUN)
    yield tun
    tun.close()


@pytest.fixture
def router(tun: LinuxTun) -> Router:
    """Under test."""
    return LinuxRouter(TUN)
