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
from tailnet.agent.netcheck.measurement import Addresses
from tailnet.agent.netcheck.plan import Plan
from tailnet.agent.relay.aio import PeerRelay
from tailnet.agent.relay.server import Datagram
from tailnet.agent.stun.messages import encode_response, parse_request_untrusted
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

LOCAL = parse_ip("127.0.0.1")


class Ports:
    """Real sockets, unmarked."""

    def __init__(self) -> None:
        self.sockets = Sockets(lambda _: None)

    def __call__(self, port: int) -> Sequence[UdpPort]:
        """As the tunnel does."""
        return self.sockets.bind(port)


async def resolve(plan: Plan) -> Addresses:
    """The servers of the map, by their addresses."""
    return {
        (probe.node, version): AddrPort(parse_ip(probe.node.ipv4), probe.node.stun_port)
        for (_, version), probes in plan.items()
        for probe in probes
    }


def make(seed: int) -> PeerRelay:
    """Off; its clock stands still."""
    return PeerRelay(
        Ports(),
        resolve=resolve,
        versions=lambda: frozenset({4}),
        now=lambda: 1000.0,
        random_bytes=Random(seed).randbytes,
    )


@pytest.fixture
async def relay() -> AsyncIterator[PeerRelay]:
    """One that runs, on a port of the kernel's choice."""
    it = make(1)
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
    second = make(2)
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


class Nat:
    """A STUN server that sees the relay at another address than its own."""

    def __init__(self, seen: str) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        self.seen = AddrPort.parse(seen)

    @property
    def map(self) -> DERPMap:
        """Of this server alone."""
        node = DERPNode("1a", 1, "stun", ipv4="127.0.0.1", stun_port=self.sock.getsockname()[1])
        return DERPMap(regions={1: DERPRegion(1, "one", "One", nodes=(node,))})

    async def serve(self) -> int:
        """Answer one request; the port it came from."""
        async with asyncio.timeout(5):
            loop = asyncio.get_running_loop()
            request, source = await loop.sock_recvfrom(self.sock, 2048)
        self.sock.sendto(encode_response(parse_request_untrusted(request), self.seen), source)
        return int(source[1])


async def offered(relay: PeerRelay, ends: tuple[End, End], wanted: AddrPort) -> list[AddrPort]:
    """What a pair is told, once ``wanted`` is in it."""
    a, b = (end.client.sealer.public for end in ends)
    async with asyncio.timeout(5):
        while True:
            endpoint = relay.allocate((a, b), 1000.0)
            assert endpoint is not None
            if wanted in endpoint.addrs:
                return list(endpoint.addrs)
            await asyncio.sleep(0)


async def test_behind_a_nat_the_mapped_address_of_its_own_port_is_offered(
    relay: PeerRelay, ends: tuple[End, End]
) -> None:
    """The servers are asked from the relay's socket; another network forgets, and asks again."""
    nat = Nat("203.0.113.9:1234")
    relay.set_derp_map(nat.map)
    assert await nat.serve() == relay.port
    assert await offered(relay, ends, nat.seen) == [nat.seen, AddrPort(LOCAL, relay.port)]
    nat.seen = AddrPort.parse("198.51.100.4:777")
    relay.network_changed()
    assert await nat.serve() == relay.port
    assert await offered(relay, ends, nat.seen) == [nat.seen, AddrPort(LOCAL, relay.port)]
    relay.want(None)
    relay.want(0)
    assert await nat.serve() == relay.port
    nat.sock.close()


async def test_answers_to_nothing_we_asked_are_dropped(
    relay: PeerRelay, ends: tuple[End, End]
) -> None:
    """From whomever; a joined group of them too."""
    nat = Nat("203.0.113.9:1234")
    relay.set_derp_map(nat.map)
    forged = encode_response(bytes(12), AddrPort.parse("192.0.2.66:66"))
    segment = [(socket.IPPROTO_UDP, 103, len(forged).to_bytes(2, "little"))]
    ends[0].sock.sendmsg([forged * 2], segment, 0, ("127.0.0.1", relay.port))
    await nat.serve()
    assert await offered(relay, ends, nat.seen) == [nat.seen, AddrPort(LOCAL, relay.port)]
    assert relay.drops() == {"STUN answer to nothing we asked": 2}
    nat.sock.close()
