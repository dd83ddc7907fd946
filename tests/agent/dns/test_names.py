"""Names in one form, and what nodes' names mean."""

from ipaddress import ip_address

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.dns.names import (
    MAGIC_DNS_AAAA,
    ROOT,
    SUBDOMAIN_RESOLVE,
    Name,
    NodeNames,
    in_search_order,
    parents,
    parse_name_untrusted,
    within,
)
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.node import Node, NodeID

V4, V6 = "100.64.0.{}/32", "fd7a:115c:a1e0::{}/128"


def node(number: int, name: str = "", *, v4: bool = True, caps: tuple[str, ...] = ()) -> Node:
    """A node with one address of each family."""
    both = (V4.format(number), V6.format(number))
    return Node(
        id=NodeID(number),
        name=name or f"n{number}.lab.ts.net.",
        addresses=both if v4 else both[1:],
        cap_map=dict.fromkeys(caps),
    )


def nodes(*known: Node, own: Node | None = None) -> NodeNames:
    """A table."""
    names = NodeNames()
    names.set_nodes(known)
    if own is not None:
        names.set_self(own)
    return names


def name(text: str) -> Name:
    """Short."""
    return parse_name_untrusted(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("A.Lab.TS.net.", "a.lab.ts.net"), (".", ""), ("", ""), ("a", "a")],
)
def test_a_name_has_one_form(text: str, canonical: str) -> None:
    """Case and the final dot do not matter."""
    assert name(text) == canonical


@pytest.mark.parametrize("text", ["a..b", ".a", "a b", "é.net", "x" * 64, "a." * 127 + "b", "a\nb"])
def test_what_is_no_name_is_refused(text: str) -> None:
    """One by one."""
    with pytest.raises(BadPacket):
        parse_name_untrusted(text)


@given(st.text(max_size=300))
def test_a_parsed_name_parses_to_itself(text: str) -> None:
    """And it is within each of its parents."""
    try:
        parsed = parse_name_untrusted(text)
    except BadPacket:
        return
    assert parse_name_untrusted(parsed) == parsed
    assert all(within(parsed, parent) for parent in parents(parsed))


def test_parents_end_with_the_root() -> None:
    """Nearest first, whole labels."""
    assert list(parents(name("a.b.c"))) == ["b.c", "c", ROOT]
    assert not within(name("xb.c"), name("b.c"))


def test_a_node_with_an_ipv4_address_gives_no_other() -> None:
    """IPv6 is given where there is nothing else."""
    names = nodes(node(1), node(2, v4=False))
    assert names.addresses(name("n1.lab.ts.net")) == (ip_address("100.64.0.1"),)
    assert names.addresses(name("n2.lab.ts.net")) == (ip_address("fd7a:115c:a1e0::2"),)
    assert names.addresses(name("n3.lab.ts.net")) is None


def test_our_own_capability_brings_ipv6_too() -> None:
    """It counts for all nodes."""
    names = nodes(node(1), own=node(9, caps=(MAGIC_DNS_AAAA,)))
    assert len(names.addresses(name("n1.lab.ts.net")) or ()) == 2


def test_without_ipv4_ourselves_only_ipv6_is_of_use() -> None:
    """We could not reach the other."""
    names = nodes(node(1), own=node(9, v4=False))
    assert names.addresses(name("n1.lab.ts.net")) == (ip_address("fd7a:115c:a1e0::1"),)


def test_subdomains_resolve_where_the_node_says_so() -> None:
    """The node itself is no subdomain."""
    names = nodes(node(1, caps=(SUBDOMAIN_RESOLVE,)), node(2))
    assert names.under(name("a.b.n1.lab.ts.net")) == (ip_address("100.64.0.1"),)
    assert names.under(name("a.n2.lab.ts.net")) is None
    assert names.under(name("n1.lab.ts.net")) is None


def test_an_address_leads_back_to_its_node_until_it_is_gone() -> None:
    """Renamed or removed."""
    names = nodes(node(1))
    assert names.owner(ip_address("fd7a:115c:a1e0::1")) == "n1.lab.ts.net"
    names.change({NodeID(1): node(1, "renamed.lab.ts.net.")})
    assert names.owner(ip_address("100.64.0.1")) == "renamed.lab.ts.net"
    assert names.addresses(name("n1.lab.ts.net")) is None
    names.change({NodeID(1): None})
    assert names.owner(ip_address("100.64.0.1")) is None


def test_a_malformed_name_harms_no_other_node() -> None:
    """It is a node without a name."""
    names = nodes(node(1, "a..b."), node(2))
    assert names.owner(ip_address("100.64.0.1")) is None
    assert names.addresses(name("n2.lab.ts.net")) is not None


def test_a_change_that_concerns_no_name_is_none() -> None:
    """Nothing has to be forgotten or told."""
    names = nodes(node(1), node(2))
    assert not names.change({NodeID(1): node(1)})
    assert not names.set_nodes([node(1), node(2)])
    assert names.change({NodeID(1): None})
    assert not names.change({NodeID(1): None})


def test_of_two_nodes_with_one_name_the_other_is_left() -> None:
    """As when a machine is set up anew: its new node comes before the old one goes."""
    old, new = node(1), msgspec.structs.replace(node(2), name=node(1).name)
    names = nodes(old)
    names.change({new.id: new})
    assert names.addresses(name("n1.lab.ts.net")) == (ip_address("100.64.0.1"),)
    names.change({old.id: None})
    assert names.addresses(name("n1.lab.ts.net")) == (ip_address("100.64.0.2"),)


def test_search_order_is_libcs() -> None:
    """A name with a dot is tried itself first; one without, last."""
    search = ("lab.ts.net", "home")
    assert list(in_search_order(Name("nas"), search)) == ["nas.lab.ts.net", "nas.home", "nas"]
    assert list(in_search_order(Name("a.b"), search)) == ["a.b", "a.b.lab.ts.net", "a.b.home"]
    assert list(in_search_order(Name("x" * 250), search)) == ["x" * 250]
