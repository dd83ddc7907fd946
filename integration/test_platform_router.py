"""The router on a real kernel, in a namespace with rules and routes of other people.

host ── eth0 (veth) 192.0.2.2/24, default via 192.0.2.1
     └─ tailnet0 (TUN)
"""

import errno
import json
import socket
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from tests.support.platform_contract import (
    EMPTY,
    EXIT_NODE,
    EXIT_NODE_WITH_LAN,
    NODE,
    RouterContract,
)
from tests.support.platform_netns import ip, private_network, snapshot

from tailnet.platform.interface import PlatformError, Router, RouterConfig
from tailnet.platform.linux import netlink
from tailnet.platform.linux.router import LinuxRouter, cleanup
from tailnet.platform.linux.routesock import BATCH, RouteSocket
from tailnet.platform.linux.rules import Interface, Prefix, Request, Verb, tunnel_route
from tailnet.platform.linux.tun import LinuxTun, open_tun

pytestmark = pytest.mark.netns
TUN = "tailnet0"
MARK = 0x80000
OUR_RULES = [
    "5210:\tfrom all fwmark 0x80000/0xff0000 lookup main",
    "5230:\tfrom all fwmark 0x80000/0xff0000 lookup default",
    "5250:\tfrom all fwmark 0x80000/0xff0000 unreachable",
    "5270:\tfrom all lookup 52",
]


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


def in_force() -> RouterConfig:
    """Read by ``ip``."""
    addrs: set[Interface] = set()
    routes: set[Prefix] = set()
    throws: set[Prefix] = set()
    for link in json.loads(ip("-j", "address", "show", "dev", TUN)):
        for addr in link["addr_info"]:
            if addr["scope"] == "global":
                addrs.add(ip_interface(f"{addr['local']}/{addr['prefixlen']}"))
    for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for route in json.loads(ip("-j", family, "route", "show", "table", "all")):
            if route.get("table") != "52":  # asking for it is an error before its first route
                continue
            dst = everything if route["dst"] == "default" else route["dst"]
            throw = route.get("type") == "throw"
            assert throw or route["dev"] == TUN
            (throws if throw else routes).add(ip_network(dst))
    return RouterConfig(frozenset(addrs), frozenset(routes), frozenset(throws))


def our_rules(family: str) -> list[str]:
    """The rules of the window that look like ours, by ``ip``."""
    return [r for line in ip(family, "rule").splitlines() if (r := line.strip()) in OUR_RULES]


def disable_ipv6(device: str) -> None:
    """Of one device, or all."""
    Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1", encoding="ascii")


def rules_and_table() -> str:
    """Everything of ours that survives the device."""
    shown = [ip(f, "rule") + ip(f, "route", "show", "table", "52") for f in ("-4", "-6")]
    return "".join(shown)


def way(dst: str, mark: int = 0) -> str:
    """The device that packets to ``dst`` leave by, or the kernel's refusal."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            sock.connect((dst, 9))
        except OSError as error:
            return error.strerror or str(error)
        return {"192.0.2.2": "eth0", "100.64.0.1": TUN}[sock.getsockname()[0]]


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


async def test_residue_of_a_killed_daemon_is_repaired(pristine: str) -> None:
    """The device is gone; rules and throw routes are not."""
    first = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    clean = rules_and_table()
    first.close()  # all that a killed process does
    assert "throw 10.1.0.0/16" in ip("route", "show", "table", "52")
    second = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    assert in_force() == EMPTY
    await router.apply(EXIT_NODE_WITH_LAN)
    assert rules_and_table() == clean
    await router.down()
    second.close()
    assert snapshot() == pristine


async def test_rules_of_the_original_agent_are_replaced(router: Router) -> None:
    """They carry no protocol, and are not doubled."""
    for family in ("-4", "-6"):
        ip(family, "rule", "del", "pref", "5270")
        ip(family, "rule", "add", "pref", "5210", "fwmark", "0x80000/0xff0000", "lookup", "main")
        ip(family, "rule", "add", "pref", "5250", "fwmark", "0x40000", "type", "unreachable")
        ip(family, "rule", "add", "pref", "5270", "lookup", "52")
    await router.up()
    for family in ("-4", "-6"):
        assert our_rules(family) == OUR_RULES
        assert "0x40000" not in ip(family, "rule")


async def test_rule_that_cannot_be_told_from_anothers_stays(router: Router) -> None:
    """Deleting the original agent's would delete an administrator's; it does no harm."""
    for family in ("-4", "-6"):
        ip(family, "rule", "add", "pref", "5270", "lookup", "52")
    await router.up()
    await router.apply(NODE)
    await router.down()
    await cleanup(TUN)
    for family in ("-4", "-6"):
        assert ip(family, "rule").count("lookup 52") == 2


async def test_cleanup_restores_the_host(pristine: str) -> None:
    """After a crash, in both families, and says what it removed."""
    tun = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    tun.close()
    ip("route", "add", "throw", "10.9.0.0/16", "table", "52")  # of the original agent
    removed = await cleanup(TUN)
    assert snapshot() == pristine
    assert "removed IPv4 rule 5270: lookup 52" in removed
    assert "removed IPv6 rule 5250: fwmark 0x80000/0xff0000 unreachable" in removed
    assert "removed route throw 10.1.0.0/16 table 52" in removed
    assert await cleanup(TUN) == []


async def test_cleanup_takes_addresses_from_a_persistent_device(host: None) -> None:
    """Those of a tailnet only."""
    ip("tuntap", "add", TUN, "mode", "tun")
    ip("link", "set", TUN, "up")
    for addr in ("100.64.0.1/32", "10.5.0.1/32", "fd7a:115c:a1e0::1/128"):
        ip("address", "add", addr, "dev", TUN)
    assert await cleanup(TUN) == [
        "removed address 100.64.0.1/32",
        "removed address fd7a:115c:a1e0::1/128",
    ]
    assert "10.5.0.1/32" in ip("address", "show", TUN)


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


async def test_own_packets_fail_rather_than_loop(router: Router) -> None:
    """Where the host has no route, the mark leads to an error, not into the tunnel."""
    await router.up()
    await router.apply(EXIT_NODE)
    ip("route", "del", "default")
    assert way("203.0.113.7", MARK) == "Network is unreachable"
    assert way("203.0.113.7") == TUN


@pytest.mark.parametrize(
    "damage",
    [
        ["route", "flush", "table", "52"],
        ["-6", "route", "flush", "table", "52"],
        ["rule", "flush"],
        ["-6", "rule", "del", "pref", "5270", "proto", "kernel"],
        ["address", "del", "100.64.0.1/32", "dev", TUN],
        ["link", "set", TUN, "down"],
    ],
    ids=" ".join,
)
async def test_applying_again_repairs(router: Router, damage: list[str]) -> None:
    """What another program removed comes back."""
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    ip(*damage)
    await router.apply(EXIT_NODE_WITH_LAN)
    assert in_force() == EXIT_NODE_WITH_LAN
    assert our_rules("-4") == our_rules("-6") == OUR_RULES


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


async def test_missing_device_is_named(host: None) -> None:
    """One line; nothing is left behind."""
    before = snapshot()
    with pytest.raises(PlatformError, match="there is no interface tailnet0"):
        await LinuxRouter(TUN).up()
    assert snapshot() == before


async def test_down_works_without_the_device(pristine: str) -> None:
    """Rules and throw routes survive it."""
    tun = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    tun.close()
    await router.down()
    assert snapshot() == pristine


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


@pytest.mark.slow
async def test_many_routes_come_and_go(router: Router) -> None:
    """More than are read before every change; damage is found when the same is applied again."""
    many = frozenset(ip_network(f"100.65.{n >> 8}.{n & 255}/32") for n in range(600))
    await router.up()
    await router.apply(RouterConfig(NODE.local_addrs, many))
    fewer = RouterConfig(NODE.local_addrs, many - {ip_network("100.65.0.7/32")})
    await router.apply(fewer)
    assert in_force() == fewer
    ip("route", "flush", "table", "52")
    await router.apply(fewer)
    assert in_force() == fewer


@pytest.mark.slow
async def test_ten_thousand_routes_come_and_go(router: Router) -> None:
    """All of them, in both families, and one of them."""
    many = frozenset(
        ip_network(f"{'100.65.' if v == 4 else 'fd7a:115c:a1e0::'}{tail}")
        for n in range(5_000)
        for v, tail in ((4, f"{n >> 8}.{n & 255}/32"), (6, f"1:{n:x}/128"))
    )
    await router.up()
    everything = RouterConfig(NODE.local_addrs, many)
    await router.apply(everything)
    assert in_force() == everything
    fewer = RouterConfig(NODE.local_addrs, many - {ip_network("100.65.0.7/32")})
    await router.apply(fewer)
    assert in_force() == fewer
    await router.apply(NODE)
    assert in_force() == NODE


async def test_each_refused_route_is_told(router: Router) -> None:
    """In a batch, the others are done; the device named does not exist."""
    await router.up()
    async with netlink.open_netlink() as kernel:
        link = await kernel.link(TUN)
        assert link is not None
        nets = [ip_network(f"100.65.0.{n}/32") for n in range(200)]
        asked = [
            Request(Verb.ADD, tunnel_route(net, 52, link.index if n % 3 else 9999))
            for n, net in enumerate(nets)
        ]
        refused = await kernel.change_routes(asked)
        assert [request for request, _ in refused] == asked[::3]
        assert str(refused[0].error) == (
            "cannot add route 100.65.0.0/32 table 52: the interface is gone"
        )
        there = {route.dst for route in await kernel.routes(socket.AF_INET, 52)}
        assert there == {net for n, net in enumerate(nets) if n % 3}


async def test_lost_answers_are_made_up_for_by_reading(router: Router) -> None:
    """A receive buffer too small for the errors of one batch: the table says what was done."""
    await router.up()
    async with netlink.open_netlink() as kernel:
        link = await kernel.link(TUN)
        assert link is not None
    asked = [
        Request(Verb.ADD, tunnel_route(ip_network(f"100.65.0.{n}/32"), 52, index))
        for n in range(BATCH)
        for index in [link.index if n % 2 else 9999]
    ]
    with RouteSocket(receive_buffer=1) as sock:
        failed = await sock.change(asked)
        assert failed == [(request, errno.ENOBUFS) for request in asked[::2]]
        assert await sock.change(asked[1::2]) == []
