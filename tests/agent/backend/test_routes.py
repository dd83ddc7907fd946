"""What the peers' shares amount to."""

from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.backend.test_plan import netmap, node

from tailnet.agent.addr import CGNAT
from tailnet.agent.backend import routes as routes_module
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import make_plan
from tailnet.agent.backend.plancache import PlanCache
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.routes import NOTHING, Routes, Share
from tailnet.agent.tailcfg.node import Node

ME = node(1)


def own(number: int) -> Share:
    """One address."""
    return Share(own=(IPv4Network(f"100.64.{number >> 8}.{number & 255}/32"),))


def blocked(cache: PlanCache, *peers: Node) -> set[str]:
    """What goes nowhere."""
    plan = make_plan(Prefs(), netmap(*peers), PeerIds(), cache)
    return {str(net) for net in plan.router.blocked}


def test_a_peer_that_is_gone_or_out_of_reach_goes_nowhere() -> None:
    """Until somebody has its address again."""
    cache = PlanCache()
    assert blocked(cache, node(2), node(3)) == set()
    assert blocked(cache, node(2)) == {"100.64.0.3/32"}
    assert blocked(cache, node(2, expired=True)) == {"100.64.0.2/32", "100.64.0.3/32"}
    assert blocked(cache, node(2), node(4, addresses=("100.64.0.3/32",))) == set()
    assert blocked(PlanCache(), node(2)) == set()


def test_what_is_gone_is_forgotten_in_the_end() -> None:
    """The oldest first."""
    routes = Routes()
    for number in range(routes_module.MAX_GONE + 2):
        routes.replace(NOTHING, own(number))
        routes.replace(own(number), NOTHING)
    gone = routes.config(ME).blocked
    assert len(gone) == routes_module.MAX_GONE
    assert ip_network("100.64.0.1/32") not in gone
    assert ip_network("100.64.0.2/32") in gone


def test_one_route_for_all_does_not_come_and_go_at_the_border(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More than ten, then one; less than eight, then one by one."""
    monkeypatch.setattr(routes_module, "MAX_PEER_ROUTES", 10)
    monkeypatch.setattr(routes_module, "FEW_PEER_ROUTES", 8)
    seen: list[bool] = []
    routes = Routes()
    for number in (*range(12), *range(11, 3, -1)):
        there = own(number)
        (old, new) = (NOTHING, there) if len(seen) < 12 else (there, NOTHING)
        routes.replace(old, new)
        seen.append(CGNAT in routes.config(ME).routes)
    assert seen == [False] * 10 + [True] * 5 + [False] * 5


NETS = st.sampled_from([ip_network(f"10.{n}.0.0/16") for n in range(4)])
SHARES = st.builds(
    Share,
    own=st.lists(NETS, max_size=2, unique=True).map(tuple),
    subnets=st.lists(NETS, max_size=2, unique=True).map(tuple),
)


@given(st.lists(st.tuples(st.integers(0, 3), SHARES), max_size=12))
def test_counting_is_the_same_as_adding_up(steps: list[tuple[int, Share]]) -> None:
    """Whatever the peers had before."""
    routes, now = Routes(), dict.fromkeys(range(4), NOTHING)
    for peer, share in steps:
        routes.replace(now[peer], share)
        now[peer] = share
        afresh = Routes()
        for each in now.values():
            afresh.replace(NOTHING, each)
        config, wanted = routes.config(ME), afresh.config(ME)
        assert config.routes == wanted.routes
        assert config.lan_direct == wanted.lan_direct
        assert not config.blocked & {net for each in now.values() for net in each.own}
