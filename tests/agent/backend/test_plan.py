"""From prefs and network map to configuration."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from types import MappingProxyType
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.backend.peerplan import less
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import Plan, make_plan
from tailnet.agent.backend.plancache import PlanCache
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import DiscoPublic, NodePublic
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.tailcfg.node import Node, NodeID

ALLOW_ALL = FilterRule(
    src_ips=("*",), dst_ports=(NetPortRange(ip="*", ports=PortRange(first=0, last=65535)),)
)

RULES = (ALLOW_ALL,)


def node(number: int, **changes: Any) -> Node:  # noqa: ANN401 - any field
    """A peer with an address of each family."""
    addresses = (f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number:x}/128")
    start: dict[str, Any] = {
        "id": NodeID(number),
        "key": NodePublic(bytes([number]) * 32),
        "disco_key": DiscoPublic(bytes([number]) * 32),
        "home_derp": 1,
        "addresses": addresses,
        "endpoints": ("192.0.2.1:41641",),
    }
    return Node(**{**start, **changes})


def netmap(*peers: Node, **changes: Any) -> NetworkMap:  # noqa: ANN401 - any field
    """A map with node 1 as self."""
    start = NetworkMap(
        self_node=node(1),
        peers=MappingProxyType({peer.id: peer for peer in peers}),
        derp_map=DERPMap(),
        dns=DNSConfig(),
        packet_filter=RULES,
        user_profiles={},
        domain="example.com",
        health=(),
        display_messages={},
    )
    return replace(start, **changes)


def plan(*peers: Node, prefs: Prefs | None = None, **changes: Any) -> Plan:  # noqa: ANN401
    """A plan without history."""
    return make_plan(prefs or Prefs(), netmap(*peers, **changes), PeerIds())


def routes(made: Plan) -> set[str]:
    """The tunnel's routes as text."""
    services = {"100.100.100.100/32", "fd7a:115c:a1e0::53/128"}
    return {str(route) for route in made.router.routes} - services


def allowed(made: Plan) -> list[list[str]]:
    """Allowed prefixes of all peers."""
    return [[str(net) for net in peer.entry.allowed] for peer in made.peers.values()]


def forgetful(made: Plan) -> Plan:
    """Without the addresses of peers of earlier maps, the only thing that a plan remembers."""
    return replace(made, router=replace(made.router, blocked=frozenset()))


SUBNET = ("100.64.0.2/32", "fd7a:115c:a1e0::2/128", "192.0.2.0/24", "0.0.0.0/0", "::/0")


def test_a_peer_is_routed_by_its_own_addresses() -> None:
    """IPv4 one by one, IPv6 as the tailnet's range."""
    made = plan(node(2))
    assert routes(made) == {"100.64.0.2/32", "fd7a:115c:a1e0::/48"}
    assert allowed(made) == [["100.64.0.2/32", "fd7a:115c:a1e0::2/128"]]
    (peer,) = made.peers.values()
    assert peer.info.endpoints == (AddrPort(ip_address("192.0.2.1"), 41641),)
    assert (peer.info.home_region, peer.info.wireguard_only) == (1, False)


def test_our_services_are_routed_for_the_families_we_have() -> None:
    """Wherever our addresses come from."""
    both = {"100.100.100.100/32", "fd7a:115c:a1e0::53/128"}
    assert {str(route) for route in plan().router.routes} == both
    old = netmap(self_node=node(1, addresses=("100.64.0.1/32",)))
    made = make_plan(Prefs(), old, PeerIds())
    assert {str(route) for route in made.router.routes} == {"100.100.100.100/32"}


def test_the_device_has_our_addresses() -> None:
    """As /32 and /128; they are also what may come in."""
    made = plan()
    assert made.router.local_addrs == {
        ip_interface("100.64.0.1/32"),
        ip_interface("fd7a:115c:a1e0::1/128"),
    }
    assert [str(net) for net in made.local] == ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]
    assert routes(made) == set()


def test_subnet_routes_need_accept_routes() -> None:
    """Without it they are neither routed nor allowed as sources, and health says so."""
    router = node(2, allowed_ips=SUBNET)
    without = plan(router)
    assert "192.0.2.0/24" not in routes(without)
    assert allowed(without) == [["100.64.0.2/32", "fd7a:115c:a1e0::2/128"]]
    assert without.routes_ignored
    accepting = plan(router, prefs=Prefs(route_all=True))
    assert "192.0.2.0/24" in routes(accepting)
    assert "192.0.2.0/24" in allowed(accepting)[0]
    assert not accepting.routes_ignored


def test_default_routes_are_never_taken() -> None:
    """A peer that offers to be an exit node gets no traffic for the world."""
    made = plan(node(2, allowed_ips=SUBNET), prefs=Prefs(route_all=True))
    assert not {"0.0.0.0/0", "::/0"} & (routes(made) | set(allowed(made)[0]))


def test_an_address_control_withdrew_is_not_allowed() -> None:
    """An empty list of allowed IPs means none; a list that lacks the addresses too."""
    assert allowed(plan(node(2, allowed_ips=()))) == [[]]
    assert routes(plan(node(2, allowed_ips=("192.0.2.0/24",)))) == set()


def test_peers_that_cannot_be_reached_get_nothing() -> None:
    """Expired, without disco and relay, without key, or with our own key."""
    none = DiscoPublic(bytes(32))
    made = plan(
        node(2, expired=True),
        node(3, disco_key=none, home_derp=0),
        node(4, key=NodePublic(bytes(32))),
        node(5, key=node(1).key),
    )
    assert not made.peers
    assert routes(made) == set()
    wireguard = node(6, disco_key=none, home_derp=0, is_wire_guard_only=True)
    assert len(plan(wireguard).peers) == 1


def test_prefixes_that_do_not_parse_are_dropped() -> None:
    """One bad entry does not cost the others."""
    bad = ("100.64.0.2/32", "100.64.0.9/24", "nonsense")
    assert allowed(plan(node(2, allowed_ips=bad))) == [["100.64.0.2/32"]]


def test_v6_outside_the_tailnets_range_is_routed_by_itself() -> None:
    """A server may hand out addresses of its own."""
    assert routes(plan(node(2, addresses=("2001:db8::2/128",)))) == {"2001:db8::2/128"}


def test_beyond_ten_thousand_peers_one_route_is_for_all() -> None:
    """The kernel's table stays small."""
    many = [
        node(i % 200 + 2, id=NodeID(i), key=NodePublic(i.to_bytes(32, "big")), addresses=(ip,))
        for i in range(2, 10_004)
        for ip in [f"{ip_address(int(ip_address('100.64.0.0')) + i)}/32"]
    ]
    assert routes(plan(*many)) == {"100.64.0.0/10"}
    assert len(routes(plan(*many[:-2]))) == 10_000


def test_advertised_routes_may_come_in() -> None:
    """Packets for our subnets are not for our own addresses."""
    made = plan(prefs=Prefs(advertise_routes=("198.51.100.0/24",)))
    assert ip_network("198.51.100.0/24") in made.local
    assert "198.51.100.0/24" not in routes(made)


def allows(made: Plan, src: str, dst: str = "100.64.0.1") -> bool:
    """May ``src`` open a TCP connection."""
    source, target = ip_address(src), ip_address(dst)
    return made.filter.allows(source.version, 6, int(source), int(target), 22)


def test_shields_up_lets_nothing_new_in() -> None:
    """Whatever the rules say."""
    assert allows(plan(node(2)), "100.64.0.2")
    assert plan(node(2), prefs=Prefs(shields_up=True)).filter == Filter.shields_up()


def test_no_filter_denies_all() -> None:
    """Never received is not "everything"."""
    assert not allows(plan(node(2), packet_filter=None), "100.64.0.2")


def test_jailed_peers_open_nothing() -> None:
    """Their addresses are cut out of the rules' sources, in both families."""
    made = plan(node(2, is_jailed=True), node(3))
    assert not allows(made, "100.64.0.2")
    assert not allows(made, "fd7a:115c:a1e0::2", "fd7a:115c:a1e0::1")
    for src in ("100.64.0.1", "100.64.0.3", "0.0.0.0", "255.255.255.255"):
        assert allows(made, src)


def test_capability_sources_follow_the_peers() -> None:
    """A peer that gains the attribute is let in, although the rules are the same object."""
    rules = (msgspec.structs.replace(ALLOW_ALL, src_ips=("cap:x",)),)
    ids, cache = PeerIds(), PlanCache()
    before = make_plan(Prefs(), netmap(node(2), packet_filter=rules), ids, cache)
    after = make_plan(
        Prefs(), netmap(node(2, cap_map={"x": None}), packet_filter=rules), ids, cache
    )
    assert (allows(before, "100.64.0.2"), allows(after, "100.64.0.2")) == (False, True)


def test_a_filter_that_makes_no_sense_is_told() -> None:
    """And lets nothing in."""
    made = plan(packet_filter=(msgspec.structs.replace(ALLOW_ALL, src_bits=(8,)),))
    assert made.filter_refused
    assert made.filter == Filter()
    assert not plan().filter_refused


def test_a_peer_may_know_us_by_other_addresses() -> None:
    """One of each family; nonsense, and our own address, are none.  Losing routes keeps them."""
    own = node(1).ips()
    v4, v6 = "self_node_v4_masq_addr_for_this_peer", "self_node_v6_masq_addr_for_this_peer"
    peers = [node(2, **{v4: "10.64.9.9", v6: "fd64::99"}), node(3)]
    peers += [node(4, **{v4: "nonsense", v6: str(own[1])}), node(5, **{v4: "10.64.9.8"})]
    made = {p.node.id: p for p in plan(*peers).peers.values()}
    others = ip_address("10.64.9.9"), ip_address("fd64::99")
    assert made[NodeID(2)].entry.masquerade == tuple(zip(own, others, strict=True))
    assert made[NodeID(3)].entry.masquerade == made[NodeID(4)].entry.masquerade == ()
    assert made[NodeID(5)].entry.masquerade == ((own[0], ip_address("10.64.9.8")),)
    peer, before = PeerIds().of(peers[0].key), made[NodeID(2)]
    more = (*before.entry.allowed, ip_network("192.0.2.0/24"))
    wider = before._replace(entry=before.entry._replace(allowed=more))
    (left,) = less({peer: wider}, {peer: before}, everything=False).values()
    assert left is not None
    assert left.entry == before.entry


def test_one_delta_keeps_everything_else() -> None:
    """The plans of other peers are the same objects, and so are routes when they did not change."""
    ids, cache = PeerIds(), PlanCache()
    two, three = node(2), node(3)
    first = make_plan(Prefs(), netmap(two, three), ids, cache)
    moved = node(3, endpoints=("198.51.100.1:1",))
    second = make_plan(Prefs(), netmap(two, moved), ids, cache)
    assert second.router is first.router
    assert second.filter is first.filter
    assert list(second.peers) == list(first.peers)
    assert [second.peers[p] is first.peers[p] for p in first.peers] == [True, False]


PEERS: st.SearchStrategy[dict[int, dict[str, Any]]] = st.dictionaries(
    st.integers(2, 6),
    st.builds(
        dict,
        key=st.integers(2, 9).map(lambda n: NodePublic(bytes([n]) * 32)),
        home_derp=st.sampled_from([0, 1]),
        expired=st.booleans(),
        is_jailed=st.booleans(),
        allowed_ips=st.sampled_from([None, (), SUBNET, ("100.64.0.3/32", "192.0.2.0/25")]),
    ),
)


@given(st.lists(st.tuples(PEERS, st.booleans(), st.booleans()), max_size=8))
def test_with_memory_or_without_the_plan_is_the_same(
    steps: list[tuple[dict[int, dict[str, Any]], bool, bool]],
) -> None:
    """After any sequence of maps and prefs."""
    ids, cache = PeerIds(), PlanCache()
    for peers, route_all, shields_up in steps:
        prefs = Prefs(route_all=route_all, shields_up=shields_up)
        current = netmap(*(node(number, **changes) for number, changes in peers.items()))
        remembered = make_plan(prefs, current, ids, cache)
        assert forgetful(remembered) == forgetful(make_plan(prefs, current, ids))
        assert make_plan(prefs, current, ids, cache) == remembered


@given(st.lists(st.tuples(PEERS, st.booleans(), st.booleans()), max_size=8))
def test_told_what_changed_the_plan_is_the_same_and_says_so(
    steps: list[tuple[dict[int, dict[str, Any]], bool, bool]],
) -> None:
    """After any sequence of changes; what it says is all that differs from the plan before."""
    ids, cache = PeerIds(), PlanCache()
    nodes: dict[int, Node] = {}
    last = make_plan(Prefs(), netmap(), ids, cache)
    for peers, route_all, shields_up in steps:
        prefs = Prefs(route_all=route_all, shields_up=shields_up)
        wanted = {number: node(number, **changes) for number, changes in peers.items()}
        kept = {n: old for n, old in nodes.items() if wanted.get(n) == old}
        changed = {NodeID(n) for n in wanted.keys() | nodes.keys() if n not in kept}
        nodes = {n: kept.get(n, wanted[n]) for n in sorted(wanted)}
        current = netmap(*nodes.values())
        told = make_plan(prefs, current, ids, cache, changed)
        fresh = make_plan(prefs, current, ids)
        assert replace(forgetful(told), changed=None) == forgetful(fresh)
        if told.changed is not None:
            for peer in {*told.peers, *last.peers}:
                if told.peers.get(peer) != last.peers.get(peer):
                    assert peer in told.changed
        last = told


# --- disco keys that peers tell us themselves

OLD, NEW, NEWER = (DiscoPublic(bytes([number]) * 32) for number in (2, 102, 103))


def test_a_disco_key_told_by_its_owner_replaces_the_one_of_control() -> None:
    """Until control says something new."""
    cache, ids, prefs = PlanCache(), PeerIds(), Prefs()

    def disco(made: Plan) -> dict[NodeID, DiscoPublic]:
        return {peer.node.id: peer.info.disco_key for peer in made.peers.values()}

    two, three = node(2), node(3)
    make_plan(prefs, netmap(two, three), ids, cache)
    assert cache.announce(two, NEW)
    assert disco(make_plan(prefs, netmap(two, three), ids, cache))[two.id] == NEW
    assert not cache.announce(two, NEW), "it is no news any more"
    same = node(2, online=True)
    assert disco(make_plan(prefs, netmap(same, three), ids, cache))[two.id] == NEW
    newer = node(2, disco_key=NEWER)
    assert disco(make_plan(prefs, netmap(newer, three), ids, cache))[two.id] == NEWER
    assert disco(make_plan(prefs, netmap(same, three), ids, cache))[two.id] == OLD


def test_an_announced_disco_key_of_somebody_else_is_not_believed() -> None:
    """Nor a zero one, nor one of a node that is unknown."""
    cache, ids = PlanCache(), PeerIds()
    two, three = node(2), node(3)
    make_plan(Prefs(), netmap(two, three), ids, cache)
    assert not cache.announce(two, three.disco_key)
    assert not cache.announce(two, DiscoPublic(bytes(32)))
    assert not cache.announce(node(4), NEW)
    assert not cache.announced


def test_a_peer_that_is_gone_takes_its_announced_key_along() -> None:
    """And its routes are counted right all the while."""
    cache, ids = PlanCache(), PeerIds()
    two, three = node(2), node(3)
    before = make_plan(Prefs(), netmap(two, three), ids, cache)
    assert cache.announce(two, NEW)
    after = make_plan(Prefs(), netmap(two, three), ids, cache)
    assert routes(after) == routes(before)
    assert routes(make_plan(Prefs(), netmap(three), ids, cache)) == routes(plan(three))
    assert not cache.announced


def test_control_can_forbid_upnp() -> None:
    """By an attribute of this node."""
    assert plan().attributes.uses_upnp
    assert not plan(self_node=node(1, cap_map={"debug-disable-upnp": ()})).attributes.uses_upnp
