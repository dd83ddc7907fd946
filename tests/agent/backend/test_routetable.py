"""What is said of routes, and what the plan does."""

from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.agent.backend.test_plan import netmap, node

from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import make_plan
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.routetable import RouteFact, Verdict, route_facts, with_acceptance
from tailnet.agent.tailcfg.node import Node, NodeID


def router(number: int, *routes: str, **changes: Any) -> Node:  # noqa: ANN401 - any field
    """A peer with routes."""
    own = (f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number:x}/128")
    return node(number, name=f"r{number}.lab.", allowed_ips=(*own, *routes), **changes)


def said(
    prefs: Prefs,
    *peers: Node,
    links: tuple[str, ...] = (),
    exit_node: NodeID | None = None,
    **me: Any,  # noqa: ANN401 - any field
) -> list[str]:
    """Lines of text."""
    facts = route_facts(prefs, netmap(*peers, **me), map(ip_network, links), exit_node)
    return [_line(fact) for fact in facts]


def _line(fact: RouteFact) -> str:
    parts = f" {', '.join(map(str, fact.parts))}" if fact.parts else ""
    direct = f" but {', '.join(map(str, fact.direct))}" if fact.direct else ""
    other = f" ({fact.other.base_name})" if fact.other else ""
    return f"{fact.prefix} {fact.node.id} {fact.verdict}{parts}{direct}{other}"


def test_each_route_has_a_verdict() -> None:
    """Of another peer, in part, off, unreachable."""
    peers = (
        router(2, "10.1.0.0/16", "10.2.0.0/16"),
        router(3, "10.1.0.0/16"),
        router(4, "10.4.0.0/16", expired=True),
    )
    assert said(Prefs(), *peers) == [
        "10.1.0.0/16 2 not accepted",
        "10.1.0.0/16 3 not accepted",
        "10.2.0.0/16 2 not accepted",
        "10.4.0.0/16 4 not accepted",
    ]
    assert said(Prefs(route_all=True), *peers, links=("10.1.7.0/24", "10.0.0.0/8")) == [
        "10.1.0.0/16 2 another peer has it (r3)",
        "10.1.0.0/16 3 accepted but 10.1.7.0/24",
        "10.2.0.0/16 2 accepted",
        "10.4.0.0/16 4 peer unreachable",
    ]
    some = Prefs(route_all=True, accept_routes=("10.1.8.0/24", "peer:r3"))
    assert said(some, *peers)[:3] == [
        "10.1.0.0/16 2 accepted in part 10.1.8.0/24",
        "10.1.0.0/16 3 accepted",
        "10.2.0.0/16 2 not named",
    ]


def test_an_exit_node_has_no_part_of_what_others_route() -> None:
    """Whatever part is accepted lies within its default route."""
    some = Prefs(route_all=True, accept_routes=("10.1.8.0/24",))
    peers = (router(2, "10.1.0.0/16"), router(3, "0.0.0.0/0", "::/0"))
    assert "10.1.0.0/16 2 accepted in part 10.1.8.0/24" in said(some, *peers)


def test_exit_nodes_and_our_own_routes_are_listed() -> None:
    """Ours come first."""
    peer = router(2, "0.0.0.0/0", "::/0", "10.9.0.0/16")
    offers = ("192.0.2.0/24", "198.51.100.0/24", "10.9.0.0/16")
    prefs = Prefs(advertise_routes=offers)
    me = router(1, "192.0.2.0/24")
    assert said(prefs, peer, exit_node=peer.id, self_node=me) == [
        "10.9.0.0/16 1 standby (r2)",
        "192.0.2.0/24 1 advertised",
        "198.51.100.0/24 1 not approved",
        "0.0.0.0/0 2 exit node in use",
        "10.9.0.0/16 2 not accepted",
        "::/0 2 exit node in use",
    ]
    assert said(Prefs(), peer)[0] == "0.0.0.0/0 2 exit node offered"


def test_a_setting_to_try_is_as_the_flag_has_it() -> None:
    """Nothing is no routes."""
    assert with_acceptance(Prefs(), "true").route_all
    assert not with_acceptance(Prefs(route_all=True), "false").route_all
    assert not with_acceptance(Prefs(route_all=True), " , ").route_all
    tried = with_acceptance(Prefs(), "tag:a, 10.0.0.0/8")
    assert (tried.route_all, tried.accept_routes) == (True, ("tag:a", "10.0.0.0/8"))


ROUTES = st.lists(
    st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/24"]), max_size=3
)
ITEMS = st.lists(
    st.sampled_from(["10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/24", "peer:r3", "tag:x"]), max_size=3
)


@given(st.lists(ROUTES, max_size=4), ITEMS, st.booleans())
def test_what_is_said_to_be_used_is_what_the_plan_routes(
    offers: list[list[str]],
    items: list[str],
    on: bool,
) -> None:
    """Every prefix, and the peer that the packets go to."""
    peers = [router(n, *dict.fromkeys(routes)) for n, routes in enumerate(offers, 2)]
    prefs = Prefs(route_all=on, accept_routes=tuple(items))
    network = netmap(*peers)
    facts = route_facts(prefs, network, ())
    used = {
        part: fact.node.id
        for fact in facts
        if fact.verdict in {Verdict.ACCEPTED, Verdict.PART}
        for part in fact.parts or (fact.prefix,)
    }
    plan = make_plan(prefs, network, PeerIds())
    holders = {
        net: peer.node.id
        for peer in plan.peers.values()
        for net in peer.entry.allowed
        if net not in peer.node.address_prefixes()
    }
    assert used == holders
    assert used.keys() <= plan.router.routes
    assert plan.router.lan_direct == bool(used)
