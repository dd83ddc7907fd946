"""Which rule answers when several could: each beats all that follow it.

Every question is one that every rule of its row knows.  The rules in front are taken away one by
one, where they can be, and the next in the row must answer.

Source: tailscale net/dns/resolver/tsdns.go, resolveLocal and resolveLocalReverse.
"""

import os
from ipaddress import ip_address

import pytest
from dnslib import QTYPE, DNSRecord

from tailnet.agent.addr import AddrPort
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.local import SERVICE_NAME, Records
from tailnet.agent.dns.message import formerr_untrusted
from tailnet.agent.dns.names import ROOT, SUBDOMAIN_RESOLVE, Name
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.dns.upstream import Https
from tailnet.agent.tailcfg.dns import Resolver
from tailnet.agent.tailcfg.node import Node, NodeID

SUFFIX, CGNAT = Name("lab.ts.net"), Name("64.100.in-addr.arpa")
ME = Node(id=NodeID(1), name="me.lab.ts.net.", addresses=("100.64.0.1/32",))
NEAR, FAR = Resolver(addr="http://192.0.2.1/near"), Resolver(addr="http://192.0.2.9/far")
SITE = "10-1-2-3-via-7.ts.net"
RULES = {
    "onion": "names below onion are not for DNS (RFC 7686)",
    "service": "the name of this service",
    "4via6": "an IPv4 address of a site, as IPv6 (4via6)",
    "record of this host": "a record of this host",
    "wildcard of this host": "a record of this host",
    "record of the tailnet": "a record of the tailnet",
    "node": "a node of the tailnet",
    "node by its short name": "a node of the tailnet, short.lab.ts.net",
    "node for its subdomains": "a node that answers for its subdomains",
    "Bonjour": "a search for Bonjour services",
    "owner": "who has the address",
    "zone of ours": "which is ours to answer",
    "reverse zone of ours": "nobody in the tailnet has the address",
    "nearer resolver": "resolvers for ",
    "default resolver": "resolvers for .",
    "nobody": "no resolver is known for this name",
}
FIXED = {"onion", "service", "4via6", "Bonjour"}  # what the name itself says
TABLE = [
    *("record of this host", "wildcard of this host", "record of the tailnet", "node"),
    *("node for its subdomains", "zone of ours", "nearer resolver", "default resolver", "nobody"),
]
SHORT = [
    *("record of this host", "record of the tailnet", "node by its short name"),
    *("default resolver", "nobody"),
]


async def told(to: Https, message: bytes) -> bytes:
    """What a resolver of others says, which is of no matter here."""
    assert to.url in {NEAR.addr, FAR.addr}
    return message[:2] + b"\x81\x80" + message[4:]


def node(number: int, name: str, *, subdomains: bool = False) -> Node:
    """A peer."""
    return Node(
        id=NodeID(number),
        name=f"{name}.",
        addresses=(f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number}/128"),
        cap_map={SUBDOMAIN_RESOLVE: None} if subdomains else None,
    )


def resolver(name: str, kind: str, rules: set[str]) -> MagicDns:
    """Everything that these rules need to know ``name``, and nothing else."""
    made = MagicDns(Forwarder(told, random_bytes=os.urandom), lambda: 1.7e9)
    reverse = kind == "PTR"
    parent = CGNAT if reverse else Name(name.partition(".")[2])
    peers = [
        *([node(3, name)] if "node" in rules else []),
        *([node(3, f"{name}.{SUFFIX}")] if "node by its short name" in rules else []),
        *([node(4, parent, subdomains=True)] if "node for its subdomains" in rules else []),
        *([node(9, "owner.lab.ts.net")] if "owner" in rules else []),
    ]
    made.set_nodes(ME, {peer.id: peer for peer in peers}, None)
    ips = (ip_address("10.0.0.1"), ip_address("fd00::1"))
    routes: dict[Name, tuple[Resolver, ...]] = {
        **({ROOT: (FAR,)} if "default resolver" in rules else {}),
        **({parent: (NEAR,)} if "nearer resolver" in rules else {}),
        **({parent: ()} if rules & {"zone of ours", "reverse zone of ours"} else {}),
    }
    tailnet: Records = {Name(name): ips} if "record of the tailnet" in rules else {}
    made.configure(tailnet, routes, SUFFIX)
    wildcard: Records = {Name(f"*.{parent}"): ips} if "wildcard of this host" in rules else {}
    exact: Records = {Name(name): ips} if "record of this host" in rules else {}
    made.set_own({**wildcard, **exact})
    return made


@pytest.mark.parametrize(
    ("name", "kind", "rules"),
    [
        ("0-0-0-0-via-1.onion", "AAAA", ["onion", *TABLE]),
        (SERVICE_NAME, "A", ["service", *TABLE]),
        (SITE, "AAAA", ["4via6", *TABLE]),
        ("a.apps.lab.ts.net", "A", TABLE),
        ("short", "A", SHORT),
        ("lb._dns-sd._udp.0.0.64.100.in-addr.arpa", "PTR", ["Bonjour", *TABLE]),
        (
            "9.0.64.100.in-addr.arpa",
            "PTR",
            ["owner", "reverse zone of ours", "nearer resolver", "default resolver", "nobody"],
        ),
    ],
)
async def test_each_rule_beats_the_next(name: str, kind: str, rules: list[str]) -> None:
    """Through the whole resolver, by the rule's name; a zone of ours never asks others."""
    query = bytes(DNSRecord.question(name, kind).pack())
    for number, rule in enumerate(rules):
        made = resolver(name, kind, set(rules[number:]) - {"nobody"})
        explained = await made.explain(query)
        assert RULES[rule] in explained.why, rule
        assert (explained.server != "") == ("resolver" in rule), rule
        await made.forwarder.close()
        if rule in FIXED:
            return  # nothing can take it away


async def test_what_is_no_question_comes_before_every_rule() -> None:
    """A name that every rule knows, with the bit of an answer, twice none, or cut off."""
    made = resolver("a.apps.lab.ts.net", "A", set(TABLE))
    query = bytes(DNSRecord.question("a.apps.lab.ts.net", QTYPE[1]).pack())
    src = AddrPort(ip_address("100.64.0.1"), 5353)
    none = query[:4] + b"\0\0" + query[6:]
    for bad in (none, query[:-5], query[:12] + b"\xc0\x0c" + query[-4:]):
        assert made(bad, src, tcp=False) == formerr_untrusted(bad) != b""
    answer = query[:2] + b"\x81\x00" + query[4:]
    assert made(answer, src, tcp=False) is None
