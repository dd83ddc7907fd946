"""Names: what is remembered, and which relays are asked."""

import os
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.control.names import (
    MAX_CANDIDATES,
    MAX_NAMES,
    TTL,
    NameCache,
    bootstrap_path,
    bootstraps,
    parse_bootstrap_untrusted,
)
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

ONE = (ip_address("1.2.3.4"), ip_address("2606:4700::1"))


def test_an_answer_is_fresh_for_ten_minutes_and_good_for_ever() -> None:
    """Old answers are for when there is no new one."""
    cache = NameCache()
    cache.put("a", ONE, 0.0)
    assert cache.fresh("a", TTL - 1) == ONE
    assert cache.fresh("a", TTL) == ()
    assert cache.last_good("a") == ONE
    assert cache.last_good("b") == ()


def test_private_addresses_are_not_kept() -> None:
    """The next network has others behind the same name."""
    cache = NameCache()
    cache.put("a", (*ONE, ip_address("192.168.1.1")), 0.0)
    cache.put("b", (), 0.0)
    assert cache.last_good("a") == cache.last_good("b") == ()


def test_the_cache_is_bounded() -> None:
    """The oldest goes."""
    cache = NameCache()
    for number in range(MAX_NAMES + 1):
        cache.put(str(number), ONE, 0.0)
    assert cache.last_good("0") == ()
    assert cache.last_good("1") == ONE


def region(*nodes: DERPNode) -> DERPRegion:
    """One."""
    return DERPRegion(nodes=nodes)


def test_relays_alternate_between_families() -> None:
    """Only those with a literal address, which needs no DNS."""
    nodes = [DERPNode(host_name=f"d{n}", ipv4=f"1.1.1.{n}", ipv6=f"2606::{n}") for n in range(1, 6)]
    derp_map = DERPMap(regions={1: region(*nodes), 2: None})
    found = bootstraps(derp_map, os.urandom)
    assert len(found) == MAX_CANDIDATES
    assert [node.ipv4 == "none" for node in found] == [False, True] * 3
    odd = DERPMap(
        regions={
            1: region(DERPNode(host_name="a"), DERPNode(ipv4="1.1.1.1", stun_only=True)),
            2: region(DERPNode(host_name="b", ipv4="none", ipv6="2606::1")),
        }
    )
    assert [node.host_name for node in bootstraps(odd, os.urandom)] == ["b"]
    assert bootstraps(DERPMap(), os.urandom) == []


def test_answer_of_a_relay() -> None:
    """Only the name that was asked for counts."""
    data = b'{"c.example":["1.2.3.4","odd"],"other":["9.9.9.9"],"n":null}'
    assert parse_bootstrap_untrusted(data, "c.example") == (ip_address("1.2.3.4"),)
    for name in ("n", "x"):
        with pytest.raises(BadPacket):
            parse_bootstrap_untrusted(data, name)
    assert bootstrap_path("a&b") == "/bootstrap-dns?q=a%26b"


@given(st.binary(max_size=100))
def test_any_answer_is_read_or_refused(data: bytes) -> None:
    """Only the one error."""
    try:
        parse_bootstrap_untrusted(data, "a")
    except BadPacket:
        return
