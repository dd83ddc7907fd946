"""The fleet and the lab's relay over loopback, TLS and all."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from integration.lab.derp import DerpServer
from integration.lab.tls import make_server_tls

from tailnet.agent import clock
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

TLS, PIN, CA = make_server_tls(["127.0.0.1", "relay.example"])
REGION = 900


class Waiter:
    """Wakes whoever waits for a condition, after each change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def change(self) -> None:
        """Something changed."""
        self._event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                self._event.clear()
                await self._event.wait()


class Node:
    """A fleet and what it reported."""

    def __init__(self, **options: object) -> None:
        self.key = NodePrivate.from_random(os.urandom(32))
        self.public = public_of(self.key)
        self.waiter = Waiter()
        self.got: list[tuple[int, NodePublic, bytes]] = []
        self.live: frozenset[int] = frozenset()
        self.marked = 0
        ca_file = options.get("ca_file")
        self.fleet = DerpFleet(
            self.key,
            on_packets=self._packets,
            on_live=self._live,
            mark=self._mark,
            now=clock.now,
            random_bytes=os.urandom,
            ca_file=None if ca_file is None else str(ca_file),
            plain_http=bool(options.get("plain_http")),
        )

    def _packets(self, region: int, source: NodePublic, packets: list[bytes]) -> None:
        self.got += [(region, source, packet) for packet in packets]
        self.waiter.change()

    def _live(self, live: frozenset[int]) -> None:
        self.live = live
        self.waiter.change()

    def _mark(self, sock: socket.socket) -> None:
        self.marked += 1


def node_of(port: int, **more: object) -> DERPNode:
    """The lab's relay on loopback, by pin."""
    values: dict[str, object] = {
        "name": "a",
        "region_id": REGION,
        "host_name": "127.0.0.1",
        "ipv4": "127.0.0.1",
        "ipv6": "none",
        "derp_port": port,
        "cert_name": f"sha256-raw:{PIN}",
    }
    return DERPNode(**(values | more))  # type: ignore[arg-type]


def map_of(*nodes: DERPNode) -> DERPMap:
    """One region."""
    return DERPMap(regions={REGION: DERPRegion(region_id=REGION, nodes=nodes)})


async def start_server(port: int = 0, key: NodePrivate | None = None) -> DerpServer:
    """A relay on loopback."""
    private = key or NodePrivate.from_random(os.urandom(32))
    server = DerpServer(private, now=clock.now, random_bytes=os.urandom)
    await server.start("127.0.0.1", port, TLS)
    return server


@asynccontextmanager
async def nodes(count: int, derp_map: DERPMap, **options: object) -> AsyncIterator[list[Node]]:
    """Nodes at home in the region, connected."""
    made = [Node(**options) for _ in range(count)]
    try:
        for node in made:
            node.fleet.set_map(derp_map)
            node.fleet.set_home(REGION)
            node.fleet.start()
        for node in made:
            await node.waiter.until(lambda n=node: REGION in n.live)  # type: ignore[misc]
        yield made
    finally:
        for node in made:
            await node.fleet.close()


@pytest.fixture
async def server() -> AsyncIterator[DerpServer]:
    """A relay that stops in the end."""
    made = await start_server()
    yield made
    await made.stop()


async def test_two_nodes_exchange_packets_through_a_pinned_relay(server: DerpServer) -> None:
    """Packets arrive with their sender, in order, both ways, and sockets were marked."""
    async with nodes(2, map_of(node_of(server.port))) as (a, b):
        packets = [bytes([i]) * (i * 13 + 1) for i in range(100)]
        a.fleet.send(REGION, b.public, packets)
        await b.waiter.until(lambda: len(b.got) == len(packets))
        assert b.got == [(REGION, a.public, packet) for packet in packets]
        b.fleet.send(0, a.public, [b"by the learned route"])
        await a.waiter.until(lambda: bool(a.got))
        assert a.got == [(REGION, b.public, b"by the learned route")]
        assert a.marked == b.marked == 1
