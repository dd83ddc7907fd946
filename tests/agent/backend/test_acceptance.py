"""Which subnet routes are used."""

from ipaddress import IPv4Network, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend.acceptance import NO_ROUTES, parse_acceptance
from tailnet.agent.errors import UserError
from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.node import Node, NodeID, StableNodeID

OFFERS = tuple(map(ip_network, ("10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32")))


def peer(**changes: Any) -> Node:  # noqa: ANN401 - any field
    """Called gw, tagged."""
    start: dict[str, Any] = {
        "id": NodeID(2),
        "key": NodePublic(bytes([2]) * 32),
        "stable_id": StableNodeID("nGW"),
        "name": "gw.lab.ts.net.",
        "addresses": ("100.64.0.2/32",),
        "tags": ("tag:router",),
    }
    return Node(**{**start, **changes})


def used(*items: str, on: bool = True, node: Node | None = None) -> list[str]:
    """Of the offers, as text."""
    return [str(net) for net in parse_acceptance(items, on=on).of(node or peer(), OFFERS)]


ALL = [str(net) for net in OFFERS]


def test_the_switch_alone_means_all_or_nothing() -> None:
    """And what is named counts only while it is on."""
    assert used() == ALL
    assert used("10.0.0.0/8", on=False) == used(on=False) == []
    assert NO_ROUTES.of(peer(), OFFERS) == ()


@pytest.mark.parametrize(
    "item", ["peer:gw", "peer:GW.lab.ts.net.", "peer:nGW", "peer:100.64.0.2", "tag:router"]
)
def test_a_peer_is_named_by_any_of_its_names_or_a_tag(item: str) -> None:
    """All that it offers is used."""
    assert used(item) == ALL
    other = peer(stable_id="nX", name="x.lab.ts.net.", addresses=("100.64.0.9/32",), tags=None)
    assert used(item, node=other) == []


def test_a_prefix_takes_what_is_inside_and_a_part_of_what_is_wider() -> None:
    """Nothing twice, and items add up."""
    assert used("10.0.0.0/8") == ["10.1.0.0/16"]
    assert used("10.1.2.0/24", "192.0.2.0/24") == ["10.1.2.0/24", "192.0.2.0/24"]
    assert used("10.1.2.0/24", "10.1.0.0/17", "10.1.2.3/32") == ["10.1.0.0/17"]
    assert used("172.16.0.0/12") == []
    assert used("2001:db8:1::/48", "tag:other") == ["2001:db8:1::/48"]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("maybe", "it is a prefix such as"),
        ("", "it is a prefix such as"),
        ("peer:", "it is a prefix such as"),
        ("10.1.2.3/16", "has non-address bits set; expected 10.1.0.0/16"),
        ("10.1.0.0/33", "is not a valid CIDR prefix"),
        ("fe80::%eth0/64", "is not a valid CIDR prefix"),
        ("0.0.0.0/0", "for the internet --exit-node"),
        ("::/0", "for the internet --exit-node"),
        ("tag:9", "bad tag"),
    ],
)
def test_bad_items_are_refused_in_one_line(item: str, says: str) -> None:
    """With what to write instead."""
    with pytest.raises(UserError, match=says):
        parse_acceptance((item,), on=True)


NETS = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(10 << 24, (10 << 24) + 0xFFFF),
    st.integers(16, 32),
)


@given(st.lists(NETS, max_size=6), st.lists(NETS, min_size=1, max_size=6))
def test_what_is_used_is_exactly_what_is_offered_and_named(
    offers: list[IPv4Network], named: list[IPv4Network]
) -> None:
    """Address by address; and no part is inside of another of the same offer."""

    def has(nets: tuple[IPNetwork, ...] | list[IPv4Network], address: int) -> bool:
        return any(address >> (32 - n.prefixlen) == int(n[0]) >> (32 - n.prefixlen) for n in nets)

    got = parse_acceptance(map(str, named), on=True).of(peer(), offers)
    edges = {int(net[n]) + d for net in (*offers, *named) for n in (0, -1) for d in (-1, 0, 1)}
    for address in edges:
        assert has(got, address) == (has(offers, address) and has(named, address))
    if len(offers) == 1:
        assert not any(a != b and has((b,), int(a[0])) for a in got for b in got)
