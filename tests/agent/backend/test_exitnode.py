"""Which peer is the exit node, and what an exit node keeps for itself."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.backend.test_plan import netmap, node

from tailnet.agent.backend.exitnode import find_exit_node, suggest, without_ours
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import make_plan
from tailnet.agent.backend.plancache import PlanCache
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.tailcfg.node import Node, NodeID, StableNodeID

EXIT = ("0.0.0.0/0", "::/0")


def exit_node(number: int, **changes: object) -> Node:
    """A peer that offers it."""
    own = node(number).addresses or ()
    start: dict[str, object] = {
        "stable_id": StableNodeID(f"n{number}"),
        "name": f"exit{number}.example.com.",
        "allowed_ips": (*own, *EXIT),
        "online": True,
    }
    return node(number, **{**start, **changes})


@pytest.mark.parametrize(
    "prefs",
    [
        Prefs(exit_node_id="n3"),
        Prefs(exit_node_id="exit3"),
        Prefs(exit_node_ip="100.64.0.3"),
        Prefs(exit_node_ip="fd7a:115c:a1e0::3"),
    ],
)
def test_it_is_found_by_any_name(prefs: Prefs) -> None:
    """Id, first label, either address."""
    assert find_exit_node(prefs, netmap(node(2), exit_node(3))) == 3


@pytest.mark.parametrize("named", [Prefs(exit_node_id="n3"), Prefs(exit_node_ip="100.64.0.3")])
def test_the_one_that_is_named_is_taken_though_another_were_better(named: Prefs) -> None:
    """``auto:any`` chooses where there is no name."""
    chart = netmap(exit_node(2), exit_node(3, online=False))
    both = msgspec.structs.replace(named, auto_exit_node="any")
    assert find_exit_node(both, chart) == 3
    assert find_exit_node(Prefs(auto_exit_node="any"), chart) == 2


def test_a_peer_that_offers_nothing_is_none() -> None:
    """Nor one that offers half of it, nor nobody."""
    half = exit_node(3, allowed_ips=(*(node(3).addresses or ()), EXIT[0]))
    assert find_exit_node(Prefs(exit_node_ip="100.64.0.2"), netmap(node(2))) is None
    assert find_exit_node(Prefs(exit_node_id="n3"), netmap(half)) is None
    assert find_exit_node(Prefs(), netmap(exit_node(3))) is None


def test_the_best_is_online_and_near() -> None:
    """In this order."""
    near, far, gone = exit_node(4), exit_node(3, home_derp=7), exit_node(2, online=False)
    assert suggest(netmap(near, far, gone)) == 4
    assert suggest(netmap(far, gone)) == 3
    assert suggest(netmap(gone)) == 2
    assert suggest(netmap(node(2))) is None


@pytest.mark.parametrize("used", [2, 3])
def test_the_one_in_use_is_left_for_a_better_one_alone(used: int) -> None:
    """One that is as good comes and goes beside it."""
    other = 5 - used
    both = netmap(exit_node(2), exit_node(3))
    assert suggest(both, NodeID(used)) == used
    far = netmap(exit_node(used, home_derp=7), exit_node(other))
    gone = netmap(exit_node(used, online=False), exit_node(other))
    silent = netmap(node(used), exit_node(other))
    assert {suggest(chart, NodeID(used)) for chart in (far, gone, silent)} == {other}
    assert suggest(both, NodeID(9)) == suggest(both)


def test_an_automatic_one_stays_from_plan_to_plan() -> None:
    """The plan knows by itself which one it was, step by step and at once."""
    prefs, ids, cache = Prefs(auto_exit_node="any"), PeerIds(), PlanCache()
    both = netmap(exit_node(2), exit_node(3))
    first = make_plan(prefs, both, ids, cache).exit_node
    assert first is not None
    second = NodeID(5 - first)
    gone = netmap(exit_node(first, online=False), exit_node(second))
    assert make_plan(prefs, gone, ids, cache).exit_node == second
    assert make_plan(prefs, both, ids, cache, {first}).exit_node == second
    assert make_plan(prefs, both, ids, cache).exit_node == second


def test_not_all_machines_crowd_at_one() -> None:
    """Each has an order of its own, which does not change."""
    choices = [
        suggest(netmap(exit_node(2), exit_node(3), self_node=me)) for me in map(_machine, range(64))
    ]
    assert 16 < choices.count(NodeID(2)) < 48
    assert suggest(netmap(exit_node(3), exit_node(2), self_node=_machine(5))) == choices[5]


def _machine(number: int) -> Node:
    return node(1, stable_id=StableNodeID(f"me{number}"))


def test_everything_goes_to_the_exit_node_and_to_nobody_else() -> None:
    """Routes, and who is sent what; a change of the exit node moves it."""
    ids, cache, chart = PeerIds(), PlanCache(), netmap(exit_node(2), exit_node(3))
    whole = {ip_network(text) for text in EXIT}
    for prefs, wanted in ((Prefs(exit_node_id="n2"), 2), (Prefs(exit_node_id="n3"), 3)):
        plan = make_plan(prefs, chart, ids, cache)
        assert {p.node.id for p in plan.peers.values() if whole <= set(p.entry.allowed)} == {wanted}
        assert whole <= plan.router.routes
        assert plan.router.leak_guard
        assert not plan.router.lan_direct
    plan = make_plan(Prefs(), chart, ids, cache)
    assert not whole & plan.router.routes
    assert not plan.router.leak_guard


def test_without_its_exit_node_a_host_sends_nothing_elsewhere() -> None:
    """The routes stay, and nobody takes what they carry."""
    plan = make_plan(Prefs(exit_node_id="n9", exit_node_allow_lan_access=True), netmap(), PeerIds())
    assert {ip_network(text) for text in EXIT} <= plan.router.routes
    assert plan.exit_node_missing
    assert plan.router.lan_direct


NETS = st.sampled_from(["192.168.1.0/24", "10.0.0.0/8", "fd00::/64", "2001:db8::/32"])


@given(st.frozensets(NETS), st.sampled_from(["8.8.8.8", "1.1.1.1", "2606:4700::1"]))
def test_an_exit_node_leads_to_the_internet_and_not_to_its_own_links(
    near: frozenset[str], outside: str
) -> None:
    """Nor to loopback, other tailnet addresses, neighbours and groups."""
    links = [ip_network(text) for text in near]
    left = without_ours([ip_network("100.64.0.1/32"), *map(ip_network, EXIT)], links)
    assert any(ip_address(outside) in net for net in left)
    for text in (
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "ff02::1",
        "100.64.0.2",
    ):
        assert not any(ip_address(text) in net for net in left)
    assert all(not any(link.network_address in net for net in left) for link in links)
    assert any(ip_address("100.64.0.1") in net for net in left)


def test_a_link_that_is_wider_than_what_is_left_out_already_is_left_out_whole() -> None:
    """100.64.0.0/10 is in the middle of it."""
    left = without_ours([ip_network("0.0.0.0/0")], [ip_network("100.0.0.0/8")])
    for text, led in (("100.1.1.1", False), ("100.200.1.1", False), ("101.1.1.1", True)):
        assert any(ip_address(text) in net for net in left) is led


def test_a_subnet_route_of_its_own_opens_a_link() -> None:
    """Who advertises the LAN means it."""
    lan = ip_network("192.168.1.0/24")
    assert lan in without_ours([*map(ip_network, EXIT), lan], [lan])


def test_ids_are_numbers() -> None:
    """As the plan compares them."""
    assert find_exit_node(Prefs(auto_exit_node="any"), netmap(exit_node(5))) == NodeID(5)
