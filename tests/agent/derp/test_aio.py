"""The fleet and the lab's relay over loopback, TLS and all."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from integration.lab.derp import DerpServer
from integration.lab.tls import make_server_tls

from tailnet.agent import clock
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.derp import frames
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.derp.session import READ_TIMEOUT
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
        self.healths: list[dict[int, str]] = []
        self.marked = 0
        self.later = 0.0  # seconds that have passed at once
        ca_file = options.get("ca_file")
        self.fleet = DerpFleet(
            self.key,
            on_packets=self._packets,
            on_live=self._live,
            on_health=self._health,
            mark=self._mark,
            now=lambda: clock.now() + self.later,
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

    def _health(self) -> None:
        self.healths.append(self.fleet.health())
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


async def start_server(
    port: int = 0,
    key: NodePrivate | None = None,
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext = TLS,
) -> DerpServer:
    """A relay on loopback."""
    private = key or NodePrivate.from_random(os.urandom(32))
    server = DerpServer(private, now=clock.now, random_bytes=os.urandom)
    await server.start(host, port, tls)
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


@pytest.mark.slow
async def test_the_fleet_reconnects_after_a_relay_restart() -> None:
    """To the same port, with the route learned before forgotten, and traffic flows again."""
    server = await start_server()
    port, key = server.port, server.private
    async with nodes(2, map_of(node_of(port))) as (a, b):
        a.fleet.send(REGION, b.public, [b"before"])
        await b.waiter.until(lambda: bool(b.got))
        await server.stop(restarting=0.01)
        for node in (a, b):
            await node.waiter.until(lambda n=node: not n.live)  # type: ignore[misc]
        b.fleet.send(0, a.public, [b"no route any more"])
        assert b.fleet.drops() == {"no route": 1}
        a.fleet.send(REGION, b.public, [bytes([i]) for i in range(40)])
        assert a.fleet.drops() == {"write queue full": 8}
        server = await start_server(port, key)
        try:
            for node in (b, a):
                await node.waiter.until(lambda n=node: REGION in n.live)  # type: ignore[misc]
            a.fleet.send(REGION, b.public, [b"after"])
            await b.waiter.until(lambda: b.got[-1][2] == b"after")
        finally:
            await server.stop()


async def test_a_relay_can_be_asked_whether_it_is_there(server: DerpServer) -> None:
    """Its answer counts as heard; one that is not connected was never heard."""
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        before = a.fleet.heard(REGION)
        assert before is not None
        assert a.fleet.heard(REGION + 1) is None
        a.fleet.check(REGION)
        a.fleet.check(REGION + 1)
        async with asyncio.timeout(5):
            while a.fleet.heard(REGION) == before:  # noqa: ASYNC110 - a pong is no event
                await asyncio.sleep(0)


@pytest.mark.slow
async def test_a_relay_that_was_silent_is_named_until_it_is_back() -> None:
    """Its connection ends after two minutes without a frame; a new one makes it good."""
    server = await start_server()
    port, key = server.port, server.private
    async with nodes(1, map_of(node_of(port))) as (a,):
        assert not a.fleet.silent
        await server.stop()
        await a.waiter.until(lambda: not a.live)
        assert not a.fleet.silent  # it said goodbye
        server = await start_server(port, key)
        try:
            await a.waiter.until(lambda: REGION in a.live)
            a.later += READ_TIMEOUT
            a.fleet._handle_timer()
            assert a.fleet.silent == {REGION}
            await a.waiter.until(lambda: REGION in a.live)
            assert not a.fleet.silent
        finally:
            await server.stop()


async def test_packets_wait_for_a_connection_and_the_oldest_go_first(server: DerpServer) -> None:
    """32 of them; the newest arrive once the relay is there."""
    a = Node()
    async with nodes(1, map_of(node_of(server.port))) as (b,):
        try:
            a.fleet.set_map(map_of(node_of(server.port)))
            a.fleet.start()
            for i in range(50):
                a.fleet.send(REGION, b.public, [bytes([i])])
            await b.waiter.until(lambda: len(b.got) == 32)
            assert [packet for _, _, packet in b.got] == [bytes([i]) for i in range(18, 50)]
            assert a.fleet.drops() == {"write queue full": 18}
        finally:
            await a.fleet.close()


async def test_peer_gone_removes_the_route(server: DerpServer) -> None:
    """When the peer leaves the relay, there is no way back to it."""
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        async with nodes(1, map_of(node_of(server.port))) as (b,):
            b.fleet.send(REGION, a.public, [b"hello"])
            await a.waiter.until(lambda: bool(a.got))
            a.fleet.send(0, b.public, [b"there"])
            await b.waiter.until(lambda: bool(b.got))
        await server.wait_for_clients(1)
        [client] = server.of(a.public)
        client.write(packet_from(a.public))  # comes after PeerGone
        await a.waiter.until(lambda: a.got[-1][1] == a.public)
        a.fleet.send(0, b.public, [b"gone"])
        assert a.fleet.drops() == {"no route": 1}


def packet_from(source: NodePublic) -> bytes:
    """A RecvPacket frame."""
    return b"".join(frames.encode_packets(frames.Kind.RECV_PACKET, source, [b"x"]))


async def test_unknown_frames_are_skipped_by_both_ends(server: DerpServer) -> None:
    """Old and new versions meet."""
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        [client] = server.of(a.public)
        client.write(b"\x77\x00\x00\x00\x03abc" + packet_from(a.public))
        await a.waiter.until(lambda: bool(a.got))
        assert a.live == {REGION}


async def test_health_texts_can_be_read(server: DerpServer) -> None:
    """And go away when the relay is content."""
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        [client] = server.of(a.public)
        client.write(frames.encode_frame(frames.Kind.HEALTH, b"too many of you"))
        client.write(packet_from(a.public))
        await a.waiter.until(lambda: len(a.got) == 1)
        assert a.fleet.health() == {REGION: "too many of you"}
        client.write(frames.encode_frame(frames.Kind.HEALTH) + packet_from(a.public))
        await a.waiter.until(lambda: len(a.got) == 2)
        assert a.fleet.health() == {}
        await a.waiter.until(lambda: a.healths[-1:] == [{}])


async def test_many_complaints_make_one_line(
    server: DerpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A relay cannot fill the log."""
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        [client] = server.of(a.public)
        for number in range(100):
            client.write(frames.encode_frame(frames.Kind.HEALTH, b"%d" % number * 400))
        client.write(packet_from(a.public))
        await a.waiter.until(lambda: bool(a.got))
        [line] = [r.getMessage() for r in caplog.records if "complains" in r.getMessage()]
        assert len(line) < 300


async def test_a_wrong_pin_is_refused_and_asked_again(server: DerpServer) -> None:
    """Nobody hears our key; a corrected map connects."""
    wrong = node_of(server.port, cert_name="sha256-raw:" + "0" * 64)
    await refused(server, wrong, "is not the pinned one")


async def refused(server: DerpServer, node: DERPNode, why: str, **options: object) -> None:
    """No connection by ``node``, which is told of, but one by a good pin afterwards."""
    a = Node(**options)
    try:
        a.fleet.set_map(map_of(node))
        a.fleet.set_home(REGION)
        a.fleet.start()
        await until_failed(a)
        assert server.clients() == []
        await a.waiter.until(lambda: bool(a.healths))
        assert why in a.healths[0][REGION]
        a.fleet.set_map(map_of(node_of(server.port)))
        await a.waiter.until(lambda: REGION in a.live)
        assert a.fleet.health() == {}
    finally:
        await a.fleet.close()


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "503 Busy"])
async def test_a_relay_that_turns_us_away_is_named_once(
    status: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the health list and in the log, however often it says so."""
    caplog.set_level("INFO", "tailnet.derp")
    left = 0  # times that the node hung up

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        left += 1
        a.waiter.change()

    a = Node(plain_http=True)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as site:
        try:
            a.fleet.set_map(map_of(node_of(site.sockets[0].getsockname()[1])))
            a.fleet.set_home(REGION)
            a.fleet.start()
            await a.waiter.until(lambda: bool(a.healths and left))
            a.later += 60.0
            a.fleet._handle_timer()
            await a.waiter.until(lambda: left == 2)
        finally:
            await a.fleet.close()
    why = f"the relay did not switch to DERP ({status[:3]})"
    assert a.healths == [{REGION: why}]
    assert [r.getMessage() for r in caplog.records] == [f"relay region {REGION}: {why}"]


async def test_a_relay_that_cannot_be_reached_complains_of_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says why; that it is out of reach is another line of the health list."""
    caplog.set_level("INFO", "tailnet.derp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        a = Node()
        try:
            a.fleet.set_map(map_of(node_of(free.getsockname()[1])))
            a.fleet.set_home(REGION)
            a.fleet.start()
            await until_failed(a)
            assert a.fleet.health() == {}
        finally:
            await a.fleet.close()
    assert [r.getMessage() for r in caplog.records] == [
        f"relay region {REGION}: Connection refused"
    ]


async def until_failed(node: Node) -> None:
    """Return once the first attempt to connect has failed."""
    async with asyncio.timeout(5):
        while node.fleet._fleet.next_timeout() is None:
            dials = list(node.fleet._dials.values())
            await asyncio.wait(dials)


async def test_a_pin_is_not_enough_for_another_host(server: DerpServer) -> None:
    """The certificate has to be for the name in the map."""
    await refused(server, node_of(server.port, host_name="other.example"), "for another name")


async def test_a_certificate_nobody_vouches_for_is_refused(server: DerpServer) -> None:
    """Without pin the chain counts."""
    await refused(server, node_of(server.port, cert_name=""), "its certificate is not trusted: ")


async def test_a_ca_file_vouches_for_host_and_for_cert_name(
    server: DerpServer, tmp_path: Path
) -> None:
    """By HostName; by CertName if the map gives one; and not for any other name."""
    ca = tmp_path / "ca.pem"
    ca.write_text(CA)
    for good in ({}, {"host_name": "other.example", "cert_name": "relay.example"}):
        node = node_of(server.port, **({"cert_name": ""} | good))
        async with nodes(1, map_of(node), ca_file=ca):
            assert len(server.clients()) == 1
        await server.wait_for_clients(0)
    await refused(
        server, node_of(server.port, cert_name="wrong.example"), "for another name", ca_file=ca
    )


@pytest.mark.parametrize("pinned", [True, False])
async def test_a_certificate_that_announces_the_relays_key_disturbs_nobody(
    pinned: bool, tmp_path: Path
) -> None:
    """It follows the relay's own, and is part of no chain."""
    tls, pin, ca = make_server_tls(["127.0.0.1"], announced=True)
    (tmp_path / "ca.pem").write_text(ca)
    server = await start_server(tls=tls)
    node = node_of(server.port, cert_name=f"sha256-raw:{pin}" if pinned else "")
    async with nodes(1, map_of(node), ca_file=tmp_path / "ca.pem"):
        assert len(server.clients()) == 1
    await server.stop()


async def test_a_relay_is_reached_by_the_family_that_the_map_leaves_open() -> None:
    """Here IPv6: what is no address of IPv4 switches that off."""
    tls, pin, _ = make_server_tls(["::1"])
    server = await start_server(host="::1", tls=tls)
    node = node_of(
        server.port, host_name="::1", ipv4="none", ipv6="::1", cert_name=f"sha256-raw:{pin}"
    )
    async with nodes(1, map_of(node)):
        assert len(server.clients()) == 1
    await server.stop()


async def test_insecure_for_tests_asks_for_no_certificate(server: DerpServer) -> None:
    """As the map says."""
    node = node_of(server.port, cert_name="", host_name="x.example", insecure_for_tests=True)
    async with nodes(1, map_of(node)):
        assert len(server.clients()) == 1


async def test_plain_http_reaches_the_same_port(server: DerpServer) -> None:
    """For those who were told so; they meet those who speak TLS."""
    derp_map = map_of(node_of(server.port))
    async with nodes(1, derp_map, plain_http=True) as (a,), nodes(1, derp_map) as (b,):
        a.fleet.send(REGION, b.public, [b"in the clear"])
        await b.waiter.until(lambda: bool(b.got))


async def test_the_next_node_of_a_region_serves_when_the_first_is_down(server: DerpServer) -> None:
    """STUN-only nodes are passed over; the relay learns which one we would have liked."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = taken.getsockname()[1]
    stun = node_of(server.port, name="s", stun_only=True)
    async with nodes(1, map_of(stun, node_of(dead, name="down"), node_of(server.port))):
        assert len(server.clients()) == 1


async def test_names_are_resolved_when_the_map_has_no_address(server: DerpServer) -> None:
    """Both families race; whichever answers serves."""
    node = node_of(
        server.port,
        host_name="localhost",
        ipv4="",
        ipv6="",
        cert_name="",
        insecure_for_tests=True,
    )
    async with nodes(1, map_of(node)):
        assert len(server.clients()) == 1


async def test_a_new_node_key_reconnects_as_somebody_else(server: DerpServer) -> None:
    """The old identity leaves the relay."""
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        key = NodePrivate.from_random(os.urandom(32))
        a.fleet.set_node_key(key)
        assert a.live == frozenset()
        await a.waiter.until(lambda: REGION in a.live)
        while server.clients() != [public_of(key)]:
            await server.wait_for_change()


async def test_a_region_that_leaves_the_map_is_closed(server: DerpServer) -> None:
    """Home or not."""
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        a.fleet.set_map(DERPMap(regions={}))
        assert a.live == frozenset()
        await server.wait_for_clients(0)
        a.fleet.send(REGION, a.public, [b"x"])
        assert a.fleet.drops() == {"region not in the map": 1}


@pytest.mark.slow
async def test_a_connection_from_a_lost_address_is_replaced(server: DerpServer) -> None:
    """While one that answers survives a change of the network."""
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        a.fleet.link_changed([ip_address("127.0.0.1")])
        assert a.live == {REGION}
        a.fleet.link_changed([])
        assert a.live == frozenset()
        await a.waiter.until(lambda: REGION in a.live)


async def test_disco_for_a_stranger_is_answered_with_peer_gone(server: DerpServer) -> None:
    """The relay says that it does not know the peer, three times at most."""
    stranger = NodePublic(b"s" * 32)
    async with nodes(1, map_of(node_of(server.port))) as (a,):
        a.fleet.send(REGION, stranger, [b"TS\xf0\x9f\x92\xac" + bytes(60)])
        a.fleet.send(REGION, a.public, [b"echo"])
        await a.waiter.until(lambda: bool(a.got))
        assert server.drops == {"unknown destination": 1}
        [client] = server.of(a.public)
        assert client.reached == {a.public}


@pytest.mark.slow
async def test_a_receiver_that_does_not_read_blocks_nobody(server: DerpServer) -> None:
    """Its packets are dropped at the relay; others get theirs, and it gets the newest later."""
    async with nodes(3, map_of(node_of(server.port))) as (a, stuck, b):
        transport = stuck.fleet._connections[REGION]._transport
        assert transport is not None
        transport.pause_reading()
        async with asyncio.timeout(15):
            while not server.drops["queue full"]:
                a.fleet.send(REGION, stuck.public, [bytes(60_000)] * 8)
                a.fleet.send(REGION, b.public, [b"to b"])
                await asyncio.sleep(0)
        a.fleet.send(REGION, b.public, [b"last"])
        await b.waiter.until(lambda: b.got[-1][2] == b"last")
        transport.resume_reading()
        a.fleet.send(REGION, stuck.public, [b"last"])
        await stuck.waiter.until(lambda: stuck.got[-1][2] == b"last" if stuck.got else False)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /derp/latency-check", "200 OK"),
        ("HEAD /derp/probe", "200 OK"),
        ("POST /derp/probe", "405 Method Not Allowed"),
        ("GET /generate_204", "204 No Content"),
        ("GET /derp", "426 Upgrade Required"),
        ("GET /nothing", "404 Not Found"),
        ("GET /robots.txt", "200 OK"),
    ],
)
async def test_the_lab_relay_answers_probes(
    server: DerpServer, request_line: str, status: str
) -> None:
    """What clients ask besides relaying, on the same port in the clear."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    challenge = "X-Tailscale-Challenge: ts_a.b"
    writer.write(
        f"{request_line} HTTP/1.1\r\nHost: x\r\n{challenge}\r\nConnection: close\r\n\r\n".encode()
    )
    async with asyncio.timeout(5):
        answer = (await reader.read()).decode()
    assert answer.startswith(f"HTTP/1.1 {status}\r\n")
    assert ("X-Tailscale-Response: response ts_a.b\r\n" in answer) == ("204" in status)
    writer.close()
    await writer.wait_closed()


async def test_the_lab_relay_hangs_up_on_garbage(server: DerpServer) -> None:
    """Neither HTTP nor TLS."""
    for garbage in (b"SSH-2.0-x\r\n\r\n", b"\x16garbage garbage", bytes(20_000)):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(garbage)
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                await reader.read()
        writer.close()
        with suppress(ConnectionResetError, BrokenPipeError):
            await writer.wait_closed()
