"""The firewall on a real kernel, among rules of other programs, with real packets.

host ── eth0 (veth) 192.0.2.2/24 ── far 192.0.2.1
     └─ tun0 (dummy of a TUN: nothing reads it)
"""

import asyncio
import re
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from tests.support.platform_netns import ip, private_network

from tailnet.platform.interface import BYPASS_MARK, PlatformError
from tailnet.platform.linux.nft import encode, firewall
from tailnet.platform.linux.nft.firewall import Nftables
from tailnet.platform.linux.nft.guard import Guard, guard_table
from tailnet.platform.linux.nft.ruleset import Firewall, own_table
from tailnet.platform.linux.nft.syntax import Family, Jump, Table, rule

pytestmark = pytest.mark.netns
WALL = Firewall(
    "tun0",
    frozenset({ip_address("100.64.0.1"), ip_address("fd7a:115c:a1e0::1")}),
    frozenset({41641}),
    stateful=True,
)


def nft(*words: str) -> str:
    """Run ``nft`` and return what it says."""
    done = subprocess.run(["nft", *words], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ruleset() -> str:
    """Everything there is, without counts."""
    return re.sub(r"packets \d+ bytes \d+", "", nft("list", "ruleset"))


@pytest.fixture
def host() -> Iterator[None]:
    """A host with one neighbour."""
    with private_network():
        ip("link", "set", "lo", "up")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "far0")
        for name in ("eth0", "far0"):
            ip("link", "set", name, "up")
        ip("address", "add", "192.0.2.2/24", "dev", "eth0")
        ip("address", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
        yield


@pytest.fixture
def ufw(host: None) -> None:
    """What a firewall of the kind leaves in the conventional tables: drop, unless accepted."""
    for family in ("ip", "ip6"):
        nft("add", "table", family, "filter")
        for hook in ("input", "forward"):
            chain = f"{{ type filter hook {hook} priority 0; policy drop; }}"
            nft("add", "chain", family, "filter", hook.upper(), chain)
            nft("add", "rule", family, "filter", hook.upper(), "ct", "state", "invalid", "drop")


def apply(wall: Firewall = WALL) -> None:
    """As the daemon does."""
    asyncio.run(Nftables().apply(wall))


def whole() -> bool:
    """As the daemon's watch asks."""
    return asyncio.run(Nftables().whole(WALL, guarded=False))


def down() -> None:
    """As the daemon does."""
    asyncio.run(Nftables().down())


def listed(name: str) -> list[str]:
    """``nft``'s words for the rules of a table of ours."""
    text = nft("list", "table", "inet", name)
    text = re.sub(r' comment "[^"]*"| packets \d+ bytes \d+', "", text)
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not re.match(r"table|chain|type|}", line)]


TABLES = {"own": own_table(WALL), "guard": guard_table(Guard("tun0"))}


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_nft_lists_what_was_meant(table: Table) -> None:
    """Another program's reading of the same bytes, rule by rule."""

    async def put() -> None:
        async with firewall._session() as kernel:
            await kernel.commit(list(encode.replace_table(table)))

    asyncio.run(put())
    wanted = [str(line) for chain in table.chains for line in chain.rules]
    assert [line.replace("ct state ! ", "ct state != ") for line in listed(table.name)] == wanted


@pytest.mark.usefixtures("host")
def test_where_nobody_filters_nothing_is_left_in_anybodys_table() -> None:
    """Our own table is all there is, and it goes."""
    before = ruleset()
    apply()
    assert "table ip " not in ruleset()
    assert whole()
    down()
    assert ruleset() == before


@pytest.mark.usefixtures("ufw")
def test_a_firewall_that_drops_lets_the_tunnel_through_and_is_as_before_afterwards() -> None:
    """Its policy stays ``drop``; our jumps come first, once, however often we apply."""
    before = ruleset()
    apply()
    first = ruleset()
    apply()
    assert ruleset().count("jump ts-input") == first.count("jump ts-input") == 2
    assert first.count("policy drop") == 4
    assert whole()
    down()
    assert ruleset() == before


@pytest.mark.usefixtures("ufw")
@pytest.mark.parametrize(
    "damage",
    [
        ("flush", "chain", "ip", "filter", "INPUT"),
        ("insert", "rule", "ip6", "filter", "FORWARD", "drop"),
        ("delete", "table", "inet", "tailnetd"),
    ],
    ids=["flushed", "displaced", "deleted"],
)
def test_damage_by_others_is_seen_and_repaired(damage: tuple[str, ...]) -> None:
    """By the same ``apply``."""
    apply()
    nft(*damage)
    assert not whole()
    apply()
    assert whole()


@pytest.mark.usefixtures("host")
def test_after_a_flush_of_everything_the_rules_are_back() -> None:
    """``nft flush ruleset`` is in many scripts."""
    apply()
    nft("flush", "ruleset")
    assert not whole()
    apply()
    assert whole()


@pytest.mark.usefixtures("ufw")
def test_a_transaction_that_fails_changes_nothing() -> None:
    """All of it or none."""
    apply()
    before = ruleset()

    async def fail() -> None:
        async with firewall._session() as kernel:
            steps = list(encode.replace_table(own_table(Firewall("other0"))))
            bad = encode.add_rule(Family.INET, "tailnetd", "in", rule(Jump("nowhere")))
            await kernel.commit([*steps, bad])

    with pytest.raises(PlatformError, match="refused"):
        asyncio.run(fail())
    assert ruleset() == before


def sent(mark: int = 0, to: str = "192.0.2.1") -> bool:
    """Whether a datagram gets out."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            sock.sendto(b"x", (to, 9))
        except PermissionError:
            return False
        return True


@pytest.mark.usefixtures("host")
def test_the_guard_stops_everything_but_the_daemon_and_what_is_allowed() -> None:
    """Both families; it outlives ``down``, and ends when told."""
    near = frozenset({ip_network("192.0.2.0/25")})
    wall = Nftables()
    ip("neighbour", "add", "192.0.2.200", "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    assert sent(to="192.0.2.200")
    asyncio.run(wall.set_guard(Guard("tun0", near)))
    asyncio.run(wall.down())
    assert not sent(to="192.0.2.200")
    assert not sent(to="2001:db8::9")
    assert sent(to="192.0.2.1")
    assert sent(mark=BYPASS_MARK, to="192.0.2.200")
    assert sent(to="127.0.0.1")
    assert not asyncio.run(wall.whole(WALL, guarded=True))
    asyncio.run(wall.set_guard(None))
    assert sent(to="192.0.2.200")
    assert ruleset() == ""


@pytest.mark.usefixtures("host")
def test_a_lie_about_a_tailnet_address_is_dropped_and_the_truth_is_not() -> None:
    """What comes from the wire with such a source, against an answer to what we asked."""
    ip("address", "add", "100.64.9.9/32", "dev", "lo")
    apply()
    ip("netns", "add", "far")
    try:
        ip("link", "set", "far0", "netns", "far")
        ip("-n", "far", "link", "set", "far0", "up")
        ip("-n", "far", "address", "add", "100.64.5.5/10", "dev", "far0")
        ip("-n", "far", "address", "add", "192.0.2.1/24", "dev", "far0")
        ip("route", "add", "100.64.5.5/32", "dev", "eth0")
        lie = ["ip", "netns", "exec", "far", "ping", "-c1", "-W1", "-I", "100.64.5.5", "192.0.2.2"]
        assert subprocess.run(lie, capture_output=True, timeout=10, check=False).returncode != 0
        ours = ["ping", "-c1", "-W2", "100.64.5.5"]
        assert subprocess.run(ours, capture_output=True, timeout=10, check=False).returncode == 0
    finally:
        ip("netns", "delete", "far")
