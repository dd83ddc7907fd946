"""The router on a real kernel: the contract, and what others set is not touched."""

import json
from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest
from integration.router.kernel import MARK, OUR_RULES, TUN, in_force, our_rules, way
from tests.support.platform_contract import (
    EMPTY,
    EXIT_NODE,
    EXIT_NODE_WITH_LAN,
    NODE,
    RouterContract,
)
from tests.support.platform_netns import ip, snapshot

from tailnet.platform.interface import Router, RouterConfig
from tailnet.platform.linux.tun import LinuxTun

pytestmark = pytest.mark.netns


class TestLinuxRouter(RouterContract):
    """The contract."""

    def in_force(self, router: Router) -> RouterConfig:
        """Read by ``ip``."""
        return in_force() if ip("-br", "link", "show").find(TUN) >= 0 else EMPTY


@pytest.mark.parametrize("family", ["-4", "-6"])
async def test_up_installs_the_four_rules(router: Router, family: str) -> None:
    """In both families, as the kernel's own, and the link is up."""
    await router.up()
    assert our_rules(family) == OUR_RULES
    for rule in json.loads(ip("-j", "-d", family, "rule")):
        if rule["priority"] in {5230, 5250}:
            assert rule["protocol"] == "kernel"
    (link,) = json.loads(ip("-j", "link", "show", "dev", TUN))
    assert link["mtu"] == 1280
    assert "UP" in link["flags"]


async def test_what_others_set_is_not_touched(tun: LinuxTun, router: Router, pristine: str) -> None:
    """Rules in the gaps and beside ours, routes with our protocol elsewhere."""
    for _ in range(2):
        await router.up()
        await router.apply(EXIT_NODE_WITH_LAN)
        await router.apply(NODE)
        await router.down()
    tun.close()
    assert snapshot() == pristine


async def test_traffic_takes_the_right_way(router: Router) -> None:
    """Users' packets enter the tunnel, the daemon's own stay out, the LAN is exempt."""
    await router.up()
    await router.apply(EXIT_NODE)
    assert way("203.0.113.7") == TUN
    assert way("203.0.113.7", MARK) == "eth0"
    assert way("10.1.2.3") == TUN
    await router.apply(EXIT_NODE_WITH_LAN)
    assert way("10.1.2.3") == "eth0"
    assert way("203.0.113.7") == TUN


async def test_peers_that_are_gone_are_not_looked_for_elsewhere(router: Router) -> None:
    """The kernel says so at once; when they are back, packets flow."""
    there = frozenset({ip_network("100.64.0.7/32")})
    await router.up()
    await router.apply(replace(NODE, blocked=there))
    assert way("100.64.0.7") == "No route to host"
    await router.apply(replace(NODE, blocked=there, routes=NODE.routes | there))
    assert way("100.64.0.7") == TUN
    await router.apply(replace(NODE, blocked=there))
    assert way("100.64.0.7") == "No route to host"
    await router.apply(NODE)
    assert way("100.64.0.7") == "eth0"


async def test_own_packets_fail_rather_than_loop(router: Router) -> None:
    """Where the host has no route, the mark leads to an error, not into the tunnel."""
    await router.up()
    await router.apply(EXIT_NODE)
    ip("route", "del", "default")
    assert way("203.0.113.7", MARK) == "Network is unreachable"
    assert way("203.0.113.7") == TUN


async def test_foreign_routes_and_addresses_of_the_tunnel_stay(router: Router) -> None:
    """An administrator's exception in table 52, and an address of another kind."""
    ip("route", "add", "throw", "10.9.0.0/16", "table", "52")
    ip("address", "add", "10.5.0.1/32", "dev", TUN)
    await router.up()
    await router.apply(NODE)
    await router.apply(EMPTY)
    await router.down()
    assert "throw 10.9.0.0/16" in ip("route", "show", "table", "52")
    assert "10.5.0.1/32" in ip("address", "show", TUN)


async def test_addresses_outside_the_usual_ranges_are_rotated(router: Router) -> None:
    """A server may number its nodes as it likes."""
    await router.up()
    for host in (1, 2):
        config = RouterConfig(frozenset({ip_interface(f"10.77.0.{host}/32")}))
        await router.apply(config)
        assert in_force() == config
