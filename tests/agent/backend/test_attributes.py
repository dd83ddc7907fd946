"""Node attributes, each with what it changes."""

import pytest
from tests.agent.backend.test_exitnode import exit_node
from tests.agent.backend.test_plan import netmap, node, plan, routes

from tailnet.agent.backend.attributes import USUAL, Attributes, attributes_of
from tailnet.agent.backend.exitnode import suggest
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import make_plan
from tailnet.agent.backend.plancache import PlanCache
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.magicsock.peers import Policy
from tailnet.agent.tailcfg.node import Hostinfo, Location, Node


def me(*names: str) -> Node:
    """This node, with these attributes."""
    return node(1, cap_map=dict.fromkeys(names))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("one-cgnat?v=true", "one_route", True),
        ("only-tcp-443", "only_relays", True),
        ("randomize-client-port", "random_port", True),
        ("disable-delta-updates", "no_deltas", True),
        ("disable-captive-portal-detection", "looks_for_portals", False),
        ("debug-disable-upnp", "uses_upnp", False),
        ("peer-mtu-enable", "probes_mtu", True),
        ("disable-relay-client", "uses_relays", False),
    ],
)
def test_each_is_one_switch(name: str, field: str, value: bool) -> None:
    """And what is not known is none."""
    assert attributes_of(me(name, "of-next-year")) == USUAL._replace(**{field: value})
    assert plan(self_node=me(name)).attributes != Attributes()
    assert plan(self_node=me("of-next-year", "one-cgnat?v=false")).attributes == Attributes()


def test_one_route_for_all_peers_comes_and_goes() -> None:
    """With the attribute alone, although no peer changed."""
    cache, ids = PlanCache(), PeerIds()
    each = {"100.64.0.2/32", "100.64.0.3/32"}
    for attributes, expected in [
        ((), each),
        (("one-cgnat?v=true",), {"100.64.0.0/10"}),
        (("one-cgnat?v=false",), each),
    ]:
        they = netmap(node(2), node(3), self_node=me(*attributes))
        made = make_plan(Prefs(), they, ids, cache, changed=() if cache.made else None)
        assert routes(made) - {"fd7a:115c:a1e0::/48"} == expected


def test_without_a_peer_there_is_no_route_for_all() -> None:
    """Providers and clouds have addresses in that range."""
    assert "100.64.0.0/10" not in routes(plan(self_node=me("one-cgnat?v=true")))


def test_where_only_https_goes_out_peers_are_reached_by_relays() -> None:
    """Whatever the user allows; with the attribute gone, as before."""
    cache, ids = PlanCache(), PeerIds()
    for attributes, policy in [((), Policy.AUTO), (("only-tcp-443",), Policy.RELAY_ONLY)] * 2:
        they = netmap(node(2), self_node=me(*attributes))
        made = make_plan(Prefs(), they, ids, cache, changed=() if cache.made else None)
        assert [peer.info.policy for peer in made.peers.values()] == [policy]


def test_where_only_https_goes_out_plain_wireguard_hosts_are_out_of_reach() -> None:
    """No relay leads to them."""
    they = node(2), node(3, is_wire_guard_only=True, endpoints=("192.0.2.3:51820",))
    assert len(plan(*they).peers) == 2
    made = plan(*they, self_node=me("only-tcp-443")).peers.values()
    assert [peer.node.id for peer in made] == [2]


def steered(number: int, priority: int, **changes: object) -> Node:
    """An exit node that may be suggested."""
    here = Hostinfo(location=Location(priority=priority))
    return exit_node(number, cap_map={"suggest-exit-node": None}, hostinfo=here, **changes)


def test_traffic_is_steered_by_priority() -> None:
    """Among those that control suggests and that are online; near is what decides without it."""
    near, far, gone = steered(2, 10), steered(3, 20, home_derp=7), steered(5, 99, online=False)
    unnamed = exit_node(4, hostinfo=Hostinfo(location=Location(priority=99)))
    everybody = (near, far, unnamed, gone)
    assert suggest(netmap(*everybody)) == 2
    assert suggest(netmap(*everybody, self_node=me("traffic-steering"))) == 3
    assert suggest(netmap(unnamed, self_node=me("traffic-steering"))) is None
