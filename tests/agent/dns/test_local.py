"""One question, one rule."""

from ipaddress import ip_address

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.dns.local import SERVICE_NAME, Answer, Forward, LocalNames
from tailnet.agent.dns.message import (
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    SERVFAIL,
    parse_question_untrusted,
)
from tailnet.agent.dns.names import ROOT, SUBDOMAIN_RESOLVE, Name, NodeNames
from tailnet.agent.dns.wanted import REVERSE_ZONES
from tailnet.agent.tailcfg.dns import Resolver
from tailnet.agent.tailcfg.node import Node, NodeID

TAILNET, CORP = Name("lab.ts.net"), Name("corp")
ONE, DEFAULT = Resolver(addr="192.0.2.1"), Resolver(addr="192.0.2.9")
ROUTES = {TAILNET: (), CORP: (ONE,), ROOT: (DEFAULT,), **dict.fromkeys(REVERSE_ZONES, ())}


def node(number: int, label: str, *, subdomains: bool = False) -> Node:
    """With an address of each family."""
    return Node(
        id=NodeID(number),
        name=f"{label}.lab.ts.net.",
        addresses=(f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number}/128"),
        cap_map={SUBDOMAIN_RESOLVE: None} if subdomains else None,
    )


def names() -> LocalNames:
    """Two nodes, a record of the tailnet, two of this host."""
    nodes = NodeNames()
    nodes.set_nodes([node(1, "web"), node(2, "apps", subdomains=True)])
    local = LocalNames(nodes, wall_clock=lambda: 1_700_000_000.0)
    local.configure({Name("db.corp"): (ip_address("10.0.0.1"),)}, ROUTES, TAILNET)
    local.set_own(
        {Name("nas.home"): (ip_address("192.168.1.2"),), Name("*.dev"): (ip_address("127.0.0.1"),)}
    )
    return local


def ask(name: str, kind: str = "A", *, at: LocalNames | None = None) -> Answer | Forward:
    """As a client."""
    return (at or names()).decide(parse_question_untrusted(DNSRecord.question(name, kind).pack()))


def answer(name: str, kind: str = "A", *, at: LocalNames | None = None) -> DNSRecord:
    """What the client reads."""
    decided = ask(name, kind, at=at)
    assert isinstance(decided, Answer)
    assert decided.why
    return DNSRecord.parse(decided.data)


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("web.lab.ts.net", "A", "100.64.0.1"),
        ("WEB.Lab.TS.net", "A", "100.64.0.1"),
        ("web", "A", "100.64.0.1"),
        ("a.b.apps.lab.ts.net", "A", "100.64.0.2"),
        ("db.corp", "A", "10.0.0.1"),
        ("db.corp", "ANY", "10.0.0.1"),
        ("nas.home", "A", "192.168.1.2"),
        ("x.y.dev", "A", "127.0.0.1"),
        (SERVICE_NAME, "A", "100.100.100.100"),
        (SERVICE_NAME, "AAAA", "fd7a:115c:a1e0::53"),
        ("10-1-2-3-via-7.lab.ts.net", "AAAA", "fd7a:115c:a1e0:b1a:0:7:a01:203"),
        ("1.0.64.100.in-addr.arpa", "PTR", "web.lab.ts.net."),
        ("1.0.0.10.in-addr.arpa", "PTR", "db.corp."),
        ("2.1.168.192.in-addr.arpa", "PTR", "nas.home."),
        (ip_address("fd7a:115c:a1e0::1").reverse_pointer, "PTR", "web.lab.ts.net."),
        ("100.100.100.100.in-addr.arpa", "PTR", f"{SERVICE_NAME}."),
    ],
)
def test_what_we_know_is_answered(name: str, kind: str, value: str) -> None:
    """One record, by the first rule that knows the name."""
    got = answer(name, kind)
    assert [str(r.rdata) for r in got.rr] == [value]
    assert got.header.rcode == NOERROR


@pytest.mark.parametrize(
    ("name", "kind", "zone"),
    [
        ("gone.lab.ts.net", "A", "lab.ts.net."),
        ("x.onion", "A", "onion."),
        ("9.9.64.100.in-addr.arpa", "PTR", "64.100.in-addr.arpa."),
    ],
)
def test_what_is_ours_and_not_there_is_denied(name: str, kind: str, zone: str) -> None:
    """With the zone's SOA, so that the denial may be kept for ten seconds."""
    got = answer(name, kind)
    assert got.header.rcode == NXDOMAIN
    assert [str(r.rname) for r in got.auth] == [zone]


@pytest.mark.parametrize("kind", ["AAAA", "TXT", "MX", "SRV"])
def test_a_known_name_without_such_a_record_is_no_error(kind: str) -> None:
    """A node has no AAAA beside its A, and no other records at all."""
    got = answer("web.lab.ts.net", kind)
    assert got.header.rcode == NOERROR
    assert not got.rr
    assert bool(got.auth) == (kind == "AAAA")


def test_a_4via6_name_has_no_ipv4_address() -> None:
    """And so no client is sent to where the IPv4 address may mean another host."""
    got = answer("10-1-2-3-via-7.lab.ts.net", "A")
    assert (got.header.rcode, got.rr) == (NOERROR, [])


@pytest.mark.parametrize("kind", ["NS", "SOA", "HINFO"])
def test_questions_about_the_zone_itself_are_not_implemented(kind: str) -> None:
    """As upstream."""
    assert answer("web.lab.ts.net", kind).header.rcode == NOTIMP


def test_bonjour_searches_end_here() -> None:
    """They would go out once a minute for every device."""
    assert answer("lb._dns-sd._udp.x.example", "PTR").header.rcode == NXDOMAIN


@pytest.mark.parametrize(
    ("name", "kind", "resolver"),
    [
        ("example.com", "A", DEFAULT),
        ("mail.corp", "MX", ONE),
        ("corp", "A", ONE),
        ("dev", "A", DEFAULT),
        ("4.3.2.1.in-addr.arpa", "PTR", DEFAULT),
        ("not-reverse.example", "PTR", DEFAULT),
        ("example.onionx", "A", DEFAULT),
    ],
)
def test_the_rest_goes_to_the_nearest_resolver(name: str, kind: str, resolver: Resolver) -> None:
    """By the longest suffix."""
    decided = ask(name, kind)
    assert isinstance(decided, Forward)
    assert decided.resolvers == (resolver,)


def test_without_any_resolver_the_client_is_told_so() -> None:
    """Rather than left waiting."""
    local = names()
    local.configure({}, {TAILNET: ()}, TAILNET)
    assert answer("example.com", at=local).header.rcode == SERVFAIL


def test_a_record_of_this_host_wins_over_a_node() -> None:
    """Who writes it means it; without it the node is back."""
    local = names()
    local.set_own({Name("web.lab.ts.net"): (ip_address("10.9.9.9"),)})
    assert str(answer("web.lab.ts.net", at=local).a.rdata) == "10.9.9.9"
    local.set_own({})
    assert str(answer("web.lab.ts.net", at=local).a.rdata) == "100.64.0.1"


def test_a_name_of_this_host_has_all_its_addresses() -> None:
    """A node has one; and a wildcard's own name exists, though nobody else knows it."""
    local = names()
    here = tuple(ip_address(text) for text in ("127.0.0.1", "127.0.0.2", "::1"))
    local.set_own({Name("*.dev"): here, Name("a.dev"): (ip_address("127.0.0.9"),)})
    assert [str(r.rdata) for r in answer("x.dev", at=local).rr] == ["127.0.0.1", "127.0.0.2"]
    assert [str(r.rdata) for r in answer("x.y.dev", "AAAA", at=local).rr] == ["::1"]
    assert [str(r.rdata) for r in answer("a.dev", at=local).rr] == ["127.0.0.9"]
    local.configure({}, {Name("dev"): ()}, TAILNET)
    got = answer("dev", at=local)
    assert (got.header.rcode, got.rr) == (NOERROR, [])


def test_short_names_need_magicdns() -> None:
    """Without it they are the host's own business."""
    local = names()
    local.configure({}, {ROOT: (DEFAULT,)}, ROOT)
    assert isinstance(ask("web", at=local), Forward)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 65535), st.integers(0, 65535))
def test_every_question_has_an_outcome(label: bytes, qtype: int, qclass: int) -> None:
    """Whatever is asked in whatever class."""
    tail = qtype.to_bytes(2) + qclass.to_bytes(2)
    wire = bytes((len(label),)) + label.replace(b".", b"-") + b"\3lab\2ts\3net\0" + tail
    question = parse_question_untrusted(b"\0\1\1\0\0\1\0\0\0\0\0\0" + wire)
    decided = names().decide(question)
    if isinstance(decided, Answer):
        assert decided.data[:2] == b"\0\1"
        assert decided.data[12 : 12 + len(wire)] == wire
