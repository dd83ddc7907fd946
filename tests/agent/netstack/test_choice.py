"""Names and ways."""

from ipaddress import ip_address, ip_network

import pytest

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.choice import (
    Reach,
    find_name,
    is_nobody,
    onward,
    parse_ip,
    parse_listen,
    peer_names,
)

ONE, TWO = (ip_address("100.64.0.1"),), (ip_address("100.64.0.2"), ip_address("fd7a::2"))


def test_nodes_are_found_by_either_name() -> None:
    """Case and a final dot do not matter."""
    names = peer_names([("h1.x.ts.net.", ONE), ("H2.x.ts.net.", TWO), ("", ONE)])
    for name in ("h2", "H2.", "h2.x.ts.net", "h2.X.ts.net."):
        assert find_name(names, name) == TWO
    assert find_name(names, "h3") == ()
    assert find_name(names, "") == ()


def test_the_first_of_two_short_names_wins_and_full_names_always() -> None:
    """A shared node of another tailnet may have the same label."""
    names = peer_names([("h.x.ts.net.", ONE), ("h.y.ts.net.", TWO)])
    assert find_name(names, "h") == ONE
    assert find_name(names, "h.y.ts.net") == TWO


def test_an_unknown_name_in_a_nodes_domain_is_nobodys() -> None:
    """Everything else may be known elsewhere."""
    names = peer_names([("h1.x.ts.net.", ONE), ("h2.x.ts.net.", ())])
    for name in ("h3.x.ts.net", "H3.X.ts.net.", "h2.x.ts.net"):
        assert is_nobody(names, name)
    for name in ("h1.x.ts.net", "h1", "h3", "x.ts.net", "h3.y.ts.net", "example.com", ""):
        assert not is_nobody(names, name)


def test_only_what_is_routed_goes_through_the_stack() -> None:
    """From our address of the same family."""
    reach = Reach(
        frozenset((ip_address("100.64.0.1"), ip_address("fd7a::1"))),
        frozenset((ip_network("100.64.0.0/30"), ip_network("fd7a::2/128"))),
    )
    assert reach.source(ip_address("100.64.0.1")) is None
    assert reach.source(ip_address("100.64.0.2")) == ip_address("100.64.0.1")
    assert reach.source(ip_address("fd7a::2")) == ip_address("fd7a::1")
    assert reach.source(ip_address("100.64.0.4")) is None
    assert Reach().source(ip_address("100.64.0.2")) is None


def test_literals_are_told_from_names() -> None:
    """Mapped addresses are unmapped."""
    assert parse_ip("::ffff:1.2.3.4") == ip_address("1.2.3.4")
    assert parse_ip("h2") is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1055", "127.0.0.1:1055"),
        ("localhost:1055", "127.0.0.1:1055"),
        (":1055", "0.0.0.0:1055"),
        ("[::1]:0", "[::1]:0"),
    ],
)
def test_listen_addresses_are_gos(text: str, address: str) -> None:
    """With and without an address."""
    assert parse_listen(text) == AddrPort.parse(address)


@pytest.mark.parametrize("text", ["", "1055", "host:1", "localhost:", "127.0.0.1:70000"])
def test_bad_listen_addresses_are_refused(text: str) -> None:
    """Names are not resolved."""
    with pytest.raises(BadPacket):
        parse_listen(text)


@pytest.mark.parametrize(
    ("local", "target"),
    [
        ("100.64.0.1:22", "127.0.0.1:22"),  # ours
        ("[fd7a:115c:a1e0::1]:22", "127.0.0.1:22"),
        ("10.0.0.9:22", "10.0.0.9:22"),  # of a route we announce
        ("[2001:db8::9]:22", "[2001:db8::9]:22"),
        ("127.0.0.1:22", None),
        ("[::1]:22", None),
        ("169.254.169.254:80", None),
        ("[fe80::1]:22", None),
        ("224.0.0.1:22", None),
        ("255.255.255.255:67", None),
        ("0.0.0.0:22", None),
        ("100.64.0.2:22", None),  # a peer
        ("100.100.100.100:53", None),
    ],
)
def test_what_peers_reach_through_us(local: str, target: str | None) -> None:
    """Our servers and our networks, never this host's inner life."""
    own = {ip_address("100.64.0.1"), ip_address("fd7a:115c:a1e0::1")}
    assert onward(own, AddrPort.parse(local)) == (AddrPort.parse(target) if target else None)


SITES = frozenset(ip_network(f"fd7a:115c:a1e0:b1a:0:7:{tail}") for tail in ("a01:0/112", "0:0/96"))


@pytest.mark.parametrize(
    ("local", "target"),
    [
        ("[fd7a:115c:a1e0:b1a:0:7:a01:5]:22", "10.1.0.5:22"),
        ("[fd7a:115c:a1e0:b1a:0:8:a01:5]:22", None),  # another site
        ("[fd7a:115c:a1e0:b1a:0:7:7f00:1]:22", None),  # loopback
        ("[fd7a:115c:a1e0:b1a:0:7:6440:2]:22", None),  # a peer
        ("[fd7a:115c:a1e0:b1a:0:7:a9fe:a9fe]:80", None),
        ("[fd7a:115c:a1e0:b1a:0:7:ffff:ffff]:67", None),
        ("[2001:db8::9]:22", "[2001:db8::9]:22"),
    ],
)
def test_what_peers_reach_in_a_site(local: str, target: str | None) -> None:
    """Of ours, and nothing of what they must not reach."""
    found = onward((), AddrPort.parse(local), SITES)
    assert found == (AddrPort.parse(target) if target else None)
