"""Queries to a resolver that knows what the network map says, and asks others for the rest."""

import asyncio
import os
from collections.abc import Awaitable
from ipaddress import ip_address

import pytest
from dnslib import DNSRecord
from tests.agent.dns.forward.test_aio import good, server
from tests.support.nodes import no_https

from tailnet.agent.addr import AddrPort
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.names import ROOT, Name
from tailnet.agent.dns.resolver.aio import LOOP, MagicDns
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.dns import Resolver
from tailnet.agent.tailcfg.node import Node, NodeID

SRC = AddrPort(ip_address("100.64.0.1"), 1000)
LAB = Name("lab.ts.net")
LOCAL = {LAB: ()}


def node(number: int, label: str) -> Node:
    """With an IPv4 address."""
    return Node(
        id=NodeID(number), name=f"{label}.lab.ts.net.", addresses=(f"100.64.0.{number}/32",)
    )


def resolver(*peers: Node) -> MagicDns:
    """That knows itself and these."""
    made = MagicDns(Forwarder(no_https, random_bytes=os.urandom), lambda: 0.0)
    made.set_nodes(node(1, "me"), {peer.id: peer for peer in peers}, None)
    made.configure({}, LOCAL, LAB)
    return made


async def reply(handler: MagicDns, query: bytes, *, tcp: bool = False) -> bytes | None:
    """Now or later."""
    said = handler(query, SRC, tcp=tcp)
    return await said if isinstance(said, Awaitable) else said


async def ask(
    handler: MagicDns, name: str, kind: str = "A", *, tcp: bool = False
) -> tuple[int, list[str]]:
    """Status and addresses."""
    said = await reply(handler, bytes(DNSRecord.question(name, kind).pack()), tcp=tcp)
    assert said is not None
    parsed = DNSRecord.parse(said)
    return int(parsed.header.get_rcode()), [str(record.rdata) for record in parsed.rr]


@pytest.mark.parametrize("tcp", [False, True])
async def test_names_follow_the_network_map(tcp: bool) -> None:
    """One node at a time, or all of them."""
    one, two = node(2, "one"), node(2, "two")
    handler = resolver(one)
    assert await ask(handler, "one.lab.ts.net", tcp=tcp) == (0, ["100.64.0.2"])
    assert await ask(handler, "me.lab.ts.net", tcp=tcp) == (0, ["100.64.0.1"])
    handler.set_nodes(node(1, "me"), {two.id: two}, {two.id})
    assert await ask(handler, "one.lab.ts.net", tcp=tcp) == (3, [])
    assert await ask(handler, "two.lab.ts.net", tcp=tcp) == (0, ["100.64.0.2"])
    handler.set_nodes(node(1, "me"), {}, {two.id})
    assert await ask(handler, "two.lab.ts.net", tcp=tcp) == (3, [])


async def test_what_is_known_is_said_at_once_and_again() -> None:
    """The second time from memory, with the id of the second query."""
    handler = resolver(node(2, "one"))
    for _ in range(3):
        query = bytes(DNSRecord.question("One.lab.ts.net").pack())
        said = handler(query, SRC, tcp=False)
        assert isinstance(said, bytes)
        assert said[:2] == query[:2]
        assert str(DNSRecord.parse(said).a.rdata) == "100.64.0.2"
    assert handler.metrics()["dns_resolve_local_ok_a"] == 3
    assert handler.metrics()["dns_query_local"] == 3


async def test_own_records_and_routes_are_heard_of_at_once() -> None:
    """Nothing that was answered before is remembered."""
    handler = resolver()
    assert await ask(handler, "nas.lab.ts.net") == (3, [])
    handler.set_own({Name("nas.lab.ts.net"): (ip_address("10.0.0.1"),)})
    assert await ask(handler, "nas.lab.ts.net") == (0, ["10.0.0.1"])
    handler.configure({}, {}, ROOT)
    handler.set_own({})
    assert await ask(handler, "nas.lab.ts.net") == (2, [])
    handler.forget()
    assert await ask(handler, "me.lab.ts.net") == (2, [])


async def test_others_are_asked_for_what_is_theirs() -> None:
    """By the longest suffix; the answer says who gave it."""
    handler = resolver()
    async with server(good) as upstream:
        handler.configure({}, {**LOCAL, ROOT: (upstream,)}, LAB)
        assert await ask(handler, "example.com") == (0, ["203.0.113.7"])
        explained = await handler.explain(bytes(DNSRecord.question("example.com").pack()))
        assert explained.server == upstream.addr
        assert explained.resolvers == (upstream,)
        assert explained.why == "resolvers for ."
        own = await handler.explain(bytes(DNSRecord.question("me.lab.ts.net").pack()))
        assert (own.server, own.why) == ("", "a node of the tailnet")
    counted = handler.metrics()
    assert counted["dns_query_fwd"] == counted["dns_query_fwd_success"] == 2
    assert counted["dns_query_fwd_udp_success"] == 2


async def test_a_long_answer_has_the_bit_that_says_so() -> None:
    """By UDP, where the client takes 512 bytes; it asks again by TCP."""

    def long(asked: bytes) -> bytes:
        return good(asked) + bytes(600)

    handler = resolver()
    async with server(long, long) as upstream:
        handler.configure({}, {ROOT: (upstream,)}, LAB)
        for tcp in (False, True):
            said = await reply(handler, bytes(DNSRecord.question("example.com").pack()), tcp=tcp)
            assert said is not None
            assert bool(said[2] & 2) is not tcp
    assert handler.metrics()["dns_query_fwd_truncated"] == 1


async def test_a_circle_through_this_host_is_cut_and_said() -> None:
    """Each answer of ours would wait for the next one of ours."""
    heard: list[bool] = []
    handler = resolver()
    handler.on_health = lambda: heard.append(handler.looping)
    async with server(lambda _: b"") as silent:
        handler.configure({}, {ROOT: (silent,)}, LAB)
        query = bytes(DNSRecord.question("example.com").pack())
        tasks = [asyncio.create_task(reply(handler, query)) for _ in range(LOOP)]
        await asyncio.sleep(0)
        assert await ask(handler, "example.com") == (2, [])
        assert heard == [True]
        assert handler.metrics()["dns_query_fwd_error_loop"] == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        handler.configure({}, LOCAL, LAB)
        assert heard == [True, False]


async def test_nothing_is_made_up_for_others() -> None:
    """An answer that is none of ours is not given."""
    handler = resolver()
    assert await ask(handler, "example.com") == (2, [])
    handler.configure({}, {ROOT: (Resolver(addr="tls://192.0.2.1"),)}, LAB)
    assert await ask(handler, "example.com") == (2, [])


async def test_what_is_no_query_gets_the_least_possible() -> None:
    """A format error, or nothing at all for an answer or noise."""
    handler = resolver()
    said = await reply(handler, b"\0\7\1\0\0\1\0\0\0\0\0\0")
    assert said is not None
    assert DNSRecord.parse(said).header.get_rcode() == 1
    assert await reply(handler, b"\0\7\x81\0\0\1\0\0\0\0\0\0") is None
    assert await reply(handler, b"noise") is None
    with pytest.raises(BadPacket):
        await handler.explain(b"noise")


async def test_addresses_of_a_name_are_ours_others_or_nobodys() -> None:
    """``None`` only where there is nobody to ask."""
    handler = resolver(node(2, "one"))
    assert await handler.addresses(Name("one.lab.ts.net")) == (ip_address("100.64.0.2"),)
    assert await handler.addresses(Name("two.lab.ts.net")) == ()
    assert await handler.addresses(Name("example.com")) is None
    async with server(good) as upstream:
        handler.configure({}, {ROOT: (upstream,)}, LAB)
        assert ip_address("203.0.113.7") in (await handler.addresses(Name("example.com")) or ())
