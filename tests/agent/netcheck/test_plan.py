"""Which servers are asked when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.netcheck.plan import Last, Plan, literal, make_plan, needs_name
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

BOTH = frozenset({4, 6})


def node(name: str, **fields: object) -> DERPNode:
    """With literal addresses of both families."""
    usual: dict[str, object] = {"name": name, "ipv4": "192.0.2.1", "ipv6": "2001:db8::1"}
    return DERPNode(**{**usual, **fields})  # type: ignore[arg-type]


def region(n: int, *nodes: DERPNode, avoid: bool = False, mute: bool = False) -> DERPRegion:
    """With one node, unless told otherwise."""
    return DERPRegion(
        region_id=n, avoid=avoid, no_measure_no_home=mute, nodes=nodes or (node(f"{n}a"),)
    )


def regions(*which: DERPRegion) -> DERPMap:
    """A map."""
    return DERPMap(regions={r.region_id: r for r in which})


FIVE = regions(*(region(n) for n in range(1, 6)))


def delays(plan: Plan) -> dict[tuple[int, int], list[float]]:
    """When each is asked [s]."""
    return {key: [round(p.delay, 6) for p in probes] for key, probes in plan.items()}


def last(*order: int, versions: frozenset[int] = BOTH) -> Last:
    """Regions by latency, 10 ms apart."""
    return Last({r: 0.010 * (i + 1) for i, r in enumerate(order)}, versions)


def test_first_report_asks_everyone_thrice() -> None:
    """100 ms apart, over both families, at the region's nodes in turn."""
    plan = make_plan(regions(region(1, node("1a"), node("1b")), region(2)), BOTH, None, 0)
    assert delays(plan) == {key: [0.0, 0.1, 0.2] for key in [(1, 4), (1, 6), (2, 4), (2, 6)]}
    assert [probe.node.name for probe in plan[1, 4]] == ["1a", "1b", "1a"]


def test_later_reports_ask_the_fastest_three_and_home() -> None:
    """Two tries for the fastest two, four for home; the others take turns with the families."""
    plan = make_plan(FIVE, BOTH, last(1, 2, 3, 4, 5), 5)
    assert delays(plan) == {
        (1, 4): [0.0, 0.012],
        (1, 6): [0.0, 0.012],
        (2, 4): [0.0, 0.024],
        (2, 6): [0.0, 0.024],
        (3, 4): [0.0],
        (5, 6): [0.0, 0.06, 0.22, 0.33],
    }


def test_family_that_did_not_work_is_tried_once() -> None:
    """And only at the fastest two."""
    plan = make_plan(FIVE, BOTH, last(1, 2, 3, versions=frozenset({4})), 1)
    assert delays(plan) == {
        (1, 4): [0.0, 0.012, 0.124, 0.186],
        (1, 6): [0.0],
        (2, 4): [0.0, 0.024],
        (2, 6): [0.0],
        (3, 4): [0.0],
    }


def test_home_that_was_silent_is_asked_with_patience() -> None:
    """200 ms stand in for a latency that is not known."""
    plan = make_plan(FIVE, frozenset({4}), last(1, versions=frozenset({4})), 4)
    assert delays(plan)[4, 4] == [0.0, 0.2, 0.5, 0.75]


def test_families_without_address_are_left_alone() -> None:
    """A machine without IPv6 asks nobody over it."""
    assert {v for _, v in make_plan(FIVE, frozenset({4}), None, 0)} == {4}


def test_flags_of_regions() -> None:
    """Mute ones never; those to avoid at first, and later only if we live there."""
    some = regions(region(1, avoid=True), region(2, mute=True), region(3))
    assert {r for r, _ in make_plan(some, BOTH, None, 0)} == {1, 3}
    assert {r for r, _ in make_plan(some, BOTH, last(1, 3), 3)} == {3}
    assert {r for r, _ in make_plan(some, BOTH, last(1, 3), 1)} == {1, 3}


def test_nodes_without_stun_are_skipped() -> None:
    """Or without that family; another node of the region stands in."""
    one = region(1, node("1a", stun_port=-1), node("1b", ipv6="none"), node("1c", ipv4="none"))
    plan = make_plan(regions(one), BOTH, None, 0)
    assert {probe.node.name for probe in plan[1, 4]} == {"1b"}
    assert {probe.node.name for probe in plan[1, 6]} == {"1c"}


@pytest.mark.parametrize(
    ("fields", "addresses", "names"),
    [
        ({}, ("192.0.2.1", "2001:db8::1"), (False, False)),
        ({"ipv4": "", "host_name": "r.example"}, ("", "2001:db8::1"), (True, False)),
        ({"ipv4": "none", "ipv6": "off"}, ("", ""), (False, False)),
        ({"stun_test_ip": "192.0.2.9"}, ("192.0.2.9", ""), (False, False)),
    ],
)
def test_where_addresses_come_from(
    fields: dict[str, object], addresses: tuple[str, str], names: tuple[bool, bool]
) -> None:
    """Literals, the test address, or DNS; anything else switches a family off."""
    one = node("1a", **fields)
    assert (literal(one, 4), literal(one, 6)) == addresses
    assert (needs_name(one, 4), needs_name(one, 6)) == names


@given(
    st.lists(st.integers(1, 9), unique=True),
    st.frozensets(st.sampled_from([4, 6])),
    st.frozensets(st.sampled_from([4, 6])),
    st.integers(0, 9),
)
def test_delays_never_go_back(
    order: list[int], have: frozenset[int], worked: frozenset[int], home: int
) -> None:
    """The first request of each series goes out at once."""
    for probes in make_plan(FIVE, have, last(*order, versions=worked), home).values():
        times = [probe.delay for probe in probes]
        assert times[0] == 0.0
        assert times == sorted(times)
