"""Hosts and kernels that lack something."""

import socket
from dataclasses import replace

import pytest
from integration.router.kernel import TUN, disable_ipv6, in_force, our_rules
from tests.support.platform_contract import EMPTY, EXIT_NODE, EXIT_NODE_WITH_LAN
from tests.support.platform_netns import ip, snapshot

from tailnet.platform.interface import PlatformError, Router
from tailnet.platform.linux import netlink
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import open_tun

pytestmark = pytest.mark.netns


async def test_without_ipv6_ipv4_works(host: None) -> None:
    """Nothing of IPv6 is tried, and nothing fails."""
    disable_ipv6("all")
    tun = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    now = in_force()
    assert all(r.version == 4 for r in now.routes | now.local_routes)
    assert {str(a) for a in now.local_addrs} == {"100.64.0.1/32"}
    assert our_rules("-6") == []
    await router.down()
    tun.close()


async def test_device_without_ipv6_is_left_without(router: Router) -> None:
    """Switched off for the tunnel alone."""
    disable_ipv6(TUN)
    await router.up()
    await router.apply(EXIT_NODE)
    assert all(r.version == 4 for r in in_force().routes)


@pytest.mark.parametrize("where", ["all", TUN])
async def test_the_guard_stops_ipv6_where_the_tunnel_has_none(
    router: Router, pristine: str, where: str
) -> None:
    """Or it would go around the exit node; and the host's own comes back in the end."""
    del pristine
    disable_ipv6(where)
    await router.up()
    before = snapshot()
    if where == TUN:
        assert "dev eth0" in ip("-6", "route", "get", "2001:db8:9::1")
    await router.apply(replace(EXIT_NODE, leak_guard=True))
    with pytest.raises(AssertionError, match=r"unreachable|No route to host"):
        ip("-6", "route", "get", "2001:db8:9::1")
    await router.apply(EMPTY)
    await router.up()
    assert snapshot() == before


async def test_missing_device_is_named(host: None) -> None:
    """One line; nothing is left behind."""
    before = snapshot()
    with pytest.raises(PlatformError, match="there is no interface tailnet0"):
        await LinuxRouter(TUN).up()
    assert snapshot() == before


@pytest.mark.parametrize("filters", [True, False])
async def test_old_kernels_send_all_tables(
    router: Router, monkeypatch: pytest.MonkeyPatch, *, filters: bool
) -> None:
    """What is not of table 52 is passed over."""
    monkeypatch.setattr(netlink, "_filters_dumps", lambda: filters)
    async with netlink.open_netlink() as kernel:
        await router.up()
        for family in (socket.AF_INET, socket.AF_INET6):
            assert await kernel.routes(family, 52) == frozenset()
        await router.apply(EXIT_NODE_WITH_LAN)
        shown = [
            str(r) for f in (socket.AF_INET, socket.AF_INET6) for r in await kernel.routes(f, 52)
        ]
        assert len(shown) == len(EXIT_NODE_WITH_LAN.routes) + len(EXIT_NODE_WITH_LAN.local_routes)
        assert all(line.endswith("table 52") for line in shown)
        shown = [str(r) for r in await kernel.routes(socket.AF_INET, 254)]
        assert "route 192.0.2.0/24 table 254" in shown
        assert await kernel.rules(socket.AF_INET)
