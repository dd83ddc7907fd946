"""What control's configuration and the user's choice come to."""

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.dns.names import Name
from tailnet.agent.dns.wanted import NOTHING, REVERSE_ZONES, ExitNode, Wanted, wanted_dns
from tailnet.agent.tailcfg.dns import DNSConfig, DNSRecord, Resolver
from tailnet.agent.tailcfg.node import Hostinfo, Node, NodeID, Service

OWN = Node(
    id=NodeID(1), name="me.lab.ts.net.", addresses=("100.64.0.1/32", "fd7a:115c:a1e0::1/128")
)
TAILNET = Name("lab.ts.net")
ONE = Resolver(addr="192.0.2.1")
FLAGGED = Resolver(addr="192.0.2.9", use_with_exit_node=True)
DOH = "http://100.64.0.2:38888/dns-query"


def wanted(
    dns: DNSConfig, *, own: Node = OWN, accept: bool = True, exit_node: ExitNode | None = None
) -> Wanted:
    """With the usual node."""
    return wanted_dns(dns, own, accept=accept, exit_node=exit_node)


def test_magicdns_routes_the_tailnet_and_its_reverse_zones_to_us() -> None:
    """65 zones and the tailnet."""
    made = wanted(DNSConfig(proxied=True, domains=("lab.ts.net",)))
    assert made.search == (TAILNET,)
    assert set(made.routes) == {TAILNET, *REVERSE_ZONES}
    assert not any(made.routes.values())
    assert not made.unrouted


def test_an_expired_key_wants_nothing_so_that_the_login_page_resolves() -> None:
    """Whatever control says."""
    assert wanted(DNSConfig(proxied=True), own=Node(id=NodeID(1), expired=True)) == NOTHING


def test_a_user_who_declines_keeps_names_and_nothing_else() -> None:
    """For those who ask us directly."""
    dns = DNSConfig(
        resolvers=(ONE,),
        proxied=True,
        domains=("x",),
        extra_records=(DNSRecord(name="db.x", type="", value="10.0.0.1"),),
    )
    made = wanted(dns, accept=False)
    assert (made.defaults, dict(made.routes), made.search) == ((), {}, ())
    assert made.records == {"db.x": (ip_address("10.0.0.1"),)}


def test_an_extra_record_outside_every_route_gets_its_own() -> None:
    """Types other than addresses, and malformed ones, are left out."""
    records = (
        DNSRecord(name="a.lab.ts.net", type="A", value="10.0.0.1"),
        DNSRecord(name="b.other", type="", value="10.0.0.2"),
        DNSRecord(name="b.other", type="AAAA", value="fd00::2"),
        DNSRecord(name="c.other", type="TXT", value="hello"),
        DNSRecord(name="c.other", type="A", value="fd00::3"),
        DNSRecord(name="..", type="A", value="10.0.0.4"),
    )
    made = wanted(DNSConfig(proxied=True, extra_records=records))
    assert set(made.records) == {"a.lab.ts.net", "b.other"}
    assert len(made.records[Name("b.other")]) == 2
    assert made.routes[Name("b.other")] == ()
    assert Name("a.lab.ts.net") not in made.routes


def test_an_exit_node_that_answers_dns_takes_over_the_defaults() -> None:
    """Unless resolvers are meant to be used beside it."""
    node = Node(id=NodeID(2), cap=26)
    dns = DNSConfig(resolvers=(ONE,), routes={"corp": (ONE,), "kept": (ONE, FLAGGED), "own": ()})
    made = wanted(dns, exit_node=ExitNode(node, DOH))
    assert made.defaults == (Resolver(addr=DOH),)
    assert made.routes == {"kept": (FLAGGED,), "own": ()}
    flagged = wanted(replace_resolvers(dns, (ONE, FLAGGED)), exit_node=ExitNode(node, DOH))
    assert flagged.defaults == (FLAGGED,)


def replace_resolvers(dns: DNSConfig, resolvers: tuple[Resolver, ...]) -> DNSConfig:
    """The same with other defaults."""
    return DNSConfig(resolvers=resolvers, routes=dns.routes)


def test_an_old_exit_node_may_offer_dns_as_a_service() -> None:
    """By capability version or by service."""
    offer = Hostinfo(services=(Service(proto="peerapi-dns-proxy", port=1),))
    assert ExitNode(Node(id=NodeID(2), hostinfo=offer), DOH).proxies
    assert not ExitNode(Node(id=NodeID(2)), DOH).proxies
    assert not ExitNode(Node(id=NodeID(2), cap=99)).proxies


def test_fallback_resolvers_count_only_with_an_exit_node_without_dns() -> None:
    """A plain WireGuard one brings its own."""
    dns = DNSConfig(fallback_resolvers=(ONE,))
    plain = Node(id=NodeID(2))
    assert wanted(dns).defaults == ()
    assert wanted(dns, exit_node=ExitNode(plain)).defaults == (ONE,)
    wireguard = Node(id=NodeID(3), is_wire_guard_only=True, exit_node_dns_resolvers=(FLAGGED,))
    assert wanted(dns, exit_node=ExitNode(wireguard)).defaults == (FLAGGED,)


@given(
    st.lists(st.text(max_size=12), max_size=4),
    st.dictionaries(st.text(max_size=12), st.none() | st.just((ONE,)), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_no_configuration_is_too_malformed(
    domains: list[str], routes: dict[str, tuple[Resolver, ...] | None], proxied: bool, accept: bool
) -> None:
    """Text from control is taken or left out."""
    dns = DNSConfig(domains=tuple(domains), routes=routes, proxied=proxied)
    made = wanted(dns, accept=accept)
    assert accept or replace(made, records={}, only_v6=False) == NOTHING
