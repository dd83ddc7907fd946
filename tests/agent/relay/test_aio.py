"""The relay's sockets, and two clients with sockets of their own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from random import Random

import pytest
from tests.agent.relay.test_server import Client, data

from tailnet.agent.addr import AddrPort, parse_ip
from tailnet.agent.datapath.interface import UdpPort
from tailnet.agent.disco.geneve import HEADER_LEN
from tailnet.agent.disco.via import Kind, RelayEndpoint
from tailnet.agent.magicsock.sockets.aio import Sockets
from tailnet.agent.relay.aio import PeerRelay
from tailnet.agent.relay.server import Datagram

LOCAL = parse_ip("127.0.0.1")


class Ports:
    """Real sockets, unmarked."""

    def __init__(self) -> None:
        self.sockets = Sockets(lambda _: None)

    def __call__(self, port: int) -> Sequence[UdpPort]:
        """As the tunnel does."""
        return self.sockets.bind(port)


@pytest.fixture
async def relay() -> AsyncIterator[PeerRelay]:
    """One that runs, on a port of the kernel's choice."""
    it = PeerRelay(Ports(), now=lambda: 1000.0, random_bytes=Random(1).randbytes)
    it.want(0)
    it.set_hosts([LOCAL])
    yield it
    it.close()


class End:
    """A client with a socket."""

    def __init__(self, seed: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        host, port = self.sock.getsockname()
        self.client = Client(seed, f"{host}:{port}")

    async def receive(self) -> bytes:
        """The next datagram."""
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self.sock, 70000)

    async def join(self, endpoint: RelayEndpoint, other: "End") -> None:
        """Bind."""
        to = (str(endpoint.addrs[0].ip), endpoint.addrs[0].port)
        self.sock.sendto(self.client.bind(endpoint, other.client), to)
        proof = self.client.challenge(Datagram(self.client.addr, await self.receive()))
        answer = self.client.bind(endpoint, other.client, step=Kind.ANSWER, challenge=proof)
        self.sock.sendto(answer, to)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    """Two."""
    pair = End(1), End(2)
    yield pair
    for end in pair:
        end.sock.close()


async def test_what_one_sends_the_other_gets_in_order_and_whole(
    relay: PeerRelay, ends: tuple[End, End]
) -> None:
    """Singly, and in groups that the kernel joins and cuts again."""
    a, b = ends
    endpoint = relay.allocate((a.client.sealer.public, b.client.sealer.public), 1000.0)
    assert endpoint is not None
    assert endpoint.addrs == (AddrPort(LOCAL, relay.port),)
    await a.join(endpoint, b)
    await b.join(endpoint, a)
    to = ("127.0.0.1", relay.port)
    sent = [data(endpoint, bytes([i]) * 900) for i in range(40)] + [data(endpoint, b"short")]
    segment = [(socket.IPPROTO_UDP, 103, len(sent[0]).to_bytes(2, "little"))]
    a.sock.sendmsg([b"".join(sent)], segment, 0, to)
    assert [await b.receive() for _ in sent] == sent
    b.sock.sendto(sent[-1], to)
    assert await a.receive() == sent[-1]
    (session,) = relay.sessions()
    assert sorted(session.packets) == [1, 41]
    assert sum(session.bytes) == sum(map(len, sent)) + len(sent[-1])
    assert None not in session.bound


async def test_groups_of_several_sessions_are_taken_apart(
    relay: PeerRelay, ends: tuple[End, End]
) -> None:
    """One address may have a session with each of many."""
    a, b = ends
    stranger = Client(3, "127.0.0.1:9")
    first = relay.allocate((a.client.sealer.public, b.client.sealer.public), 1000.0)
    second = relay.allocate((a.client.sealer.public, stranger.sealer.public), 1000.0)
    assert first is not None
    assert second is not None
    await a.join(first, b)
    await b.join(first, a)
    to = ("127.0.0.1", relay.port)
    group = [data(first, b"1" * 90), data(second, b"2" * 90), data(first, b"3" * 90)]
    segment = [(socket.IPPROTO_UDP, 103, len(group[0]).to_bytes(2, "little"))]
    a.sock.sendmsg([b"".join(group)], segment, 0, to)
    assert [await b.receive(), await b.receive()] == [group[0], group[2]]
    assert relay.drops() == {"not bound": 1}


async def test_nobody_gets_more_than_was_sent_without_an_address_proven(
    relay: PeerRelay, ends: tuple[End, End]
) -> None:
    """A bind is answered by as much; anything else by nothing."""
    a, b = ends
    endpoint = relay.allocate((a.client.sealer.public, b.client.sealer.public), 1000.0)
    assert endpoint is not None
    to = ("127.0.0.1", relay.port)
    for junk in (b"x", bytes(HEADER_LEN), data(endpoint), b"\0\x80" + bytes(500)):
        a.sock.sendto(junk, to)
    bind = a.client.bind(endpoint, b.client)
    a.sock.sendto(bind, to)
    assert len(await a.receive()) == len(bind)
    with pytest.raises(BlockingIOError):
        a.sock.recv(1)


async def test_a_taken_port_is_a_problem_that_says_which_is_used(relay: PeerRelay) -> None:
    """And it works on the other one."""
    second = PeerRelay(Ports(), now=lambda: 1000.0, random_bytes=Random(2).randbytes)
    second.want(relay.port)
    assert second.running
    assert second.port not in (0, relay.port)
    words = f"UDP port {relay.port} is taken; the peer relay uses {second.port}"
    assert second.problem == words
    second.want(None)
    assert (second.running, second.port, second.problem) == (False, 0, "")
    assert second.allocate((Client(1, "127.0.0.1:1").sealer.public,) * 2, 1000.0) is None
    second.close()


async def test_static_addresses_come_first(relay: PeerRelay, ends: tuple[End, End]) -> None:
    """The user knows best."""
    fixed = AddrPort.parse("203.0.113.7:7000")
    relay.want(0, (fixed,))
    a, b = (end.client.sealer.public for end in ends)
    endpoint = relay.allocate((a, b), 1000.0)
    assert endpoint is not None
    assert endpoint.addrs == (fixed, AddrPort(LOCAL, relay.port))
