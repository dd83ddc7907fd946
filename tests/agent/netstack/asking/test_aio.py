"""Resolvers behind the stack: by UDP and TCP, and what is not there."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from dnslib import DNSRecord
from tests.agent.dns.forward.test_aio import address, good, query, server, short
from tests.support.netstacks import ONE, TWO, Pair, two_stacks

from tailnet.agent.addr import AddrPort
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.netstack.asking.aio import StackDialer
from tailnet.agent.tailcfg.dns import Resolver

pytest.importorskip("tailnet_native", reason="the stack is native")


async def no_https(*_: object) -> bytes:
    """Nobody speaks it here."""
    raise OSError


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[Forwarder, Pair]]:
    """Asks through the first stack; servers on loopback are behind the second."""
    failures: list[str] = []
    async with two_stacks(failures) as pair:
        yield Forwarder(no_https, random_bytes=os.urandom, dialer=StackDialer(pair.one)), pair
    assert failures == []


def inside(resolver: Resolver, at: str) -> Resolver:
    """The same port at a tailnet address."""
    return Resolver(addr=str(AddrPort(ip_address(at), AddrPort.parse(resolver.addr).port)))


@pytest.mark.parametrize("at", [TWO[0], ONE[0]], ids=["of a peer", "of our own"])
async def test_a_resolver_inside_answers_by_udp(at: str) -> None:
    """Through the stack, or on this host; and nothing of it stays."""
    async with asking() as (forwarder, pair), server(good) as outside:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            assert (
                address(await forwarder.resolve(query(), (inside(outside, at),))) == "203.0.113.7"
            )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # Of the peer's side one flow for each port waits to be forgotten.
        assert len(os.listdir("/proc/self/fd")) <= before + 50
        assert pair.one.datagrams._ports == {}


async def test_a_resolver_inside_answers_by_tcp() -> None:
    """What does not fit into a datagram."""
    async with asking() as (forwarder, _), server(short, good) as outside:
        got = await forwarder.resolve(query(tcp=True), (inside(outside, TWO[0]),))
        assert got.data is not None
        assert not DNSRecord.parse(got.data).header.tc
        assert address(got) == "203.0.113.7"


async def test_a_resolver_outside_is_asked_as_ever() -> None:
    """By the host's own sockets."""
    async with asking() as (forwarder, _), server(good) as outside:
        assert address(await forwarder.resolve(query(), (outside,))) == "203.0.113.7"


async def test_an_address_that_nobody_has_is_not_asked_outside() -> None:
    """At once, by neither way."""
    async with asking() as (forwarder, _):
        got = await forwarder.resolve(query(), (Resolver(addr="100.100.0.77"),))
        assert got.data is not None
        assert DNSRecord.parse(got.data).header.rcode == 2
