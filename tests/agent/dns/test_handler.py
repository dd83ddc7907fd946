"""A handler that knows what the network map says, and asks nobody."""

from ipaddress import ip_address

import pytest
from dnslib import DNSRecord

from tailnet.agent.addr import AddrPort
from tailnet.agent.dns.handler import LocalHandler
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.node import Node, NodeID

SRC = AddrPort(ip_address("100.64.0.1"), 1000)
DNS = DNSConfig(proxied=True)


def node(number: int, label: str) -> Node:
    """With an IPv4 address."""
    return Node(
        id=NodeID(number), name=f"{label}.lab.ts.net.", addresses=(f"100.64.0.{number}/32",)
    )


async def ask(handler: LocalHandler, name: str, *, tcp: bool = False) -> tuple[int, list[str]]:
    """Status and addresses."""
    said = await handler(DNSRecord.question(name).pack(), SRC, tcp=tcp)
    assert said is not None
    reply = DNSRecord.parse(said)
    return int(reply.header.get_rcode()), [str(record.rdata) for record in reply.rr]


@pytest.mark.parametrize("tcp", [False, True])
async def test_names_follow_the_network_map(tcp: bool) -> None:
    """One node at a time, or all of them."""
    handler = LocalHandler(lambda: 0.0)
    own, one, two = node(1, "me"), node(2, "one"), node(2, "two")
    handler.learn(own, {one.id: one}, DNS, None, accept=True)
    assert await ask(handler, "one.lab.ts.net", tcp=tcp) == (0, ["100.64.0.2"])
    assert await ask(handler, "me.lab.ts.net", tcp=tcp) == (0, ["100.64.0.1"])
    handler.learn(own, {two.id: two}, DNS, {two.id}, accept=True)
    assert await ask(handler, "one.lab.ts.net", tcp=tcp) == (3, [])
    assert await ask(handler, "two.lab.ts.net", tcp=tcp) == (0, ["100.64.0.2"])
    handler.learn(own, {}, DNS, {two.id}, accept=True)
    assert await ask(handler, "two.lab.ts.net", tcp=tcp) == (3, [])


async def test_nothing_is_made_up_for_others() -> None:
    """Nobody is asked; an answer that is none of ours is not given."""
    handler = LocalHandler(lambda: 0.0)
    handler.learn(node(1, "me"), {}, DNS, None, accept=True)
    assert (await ask(handler, "example.com"))[0] in (2, 5)


async def test_what_is_no_query_gets_the_least_possible() -> None:
    """A format error, or nothing at all for an answer or noise."""
    handler = LocalHandler(lambda: 0.0)
    said = await handler(b"\0\7\1\0\0\1\0\0\0\0\0\0", SRC, tcp=False)
    assert said is not None
    assert DNSRecord.parse(said).header.get_rcode() == 1
    assert await handler(b"\0\7\x81\0\0\1\0\0\0\0\0\0", SRC, tcp=False) is None
    assert await handler(b"noise", SRC, tcp=False) is None
