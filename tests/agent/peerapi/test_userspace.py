"""The server behind our own stack, which no socket of the kernel says the peer of."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
from tests.support.netstacks import ONE, TWO, Pair, two_stacks

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.netstack.interface import DialError, Failure
from tailnet.agent.peerapi import aio
from tailnet.agent.peerapi.aio import Caller, PeerApi
from tailnet.agent.peerapi.ports import port_of
from tailnet.agent.peerapi.requests import MAX_MESSAGE

pytest.importorskip("tailnet_native", reason="needs the native extension")

PORT = port_of(ip_address(TWO[0]))
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Rig:
    """``pair.two`` has the server, ``pair.one`` asks it."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.counted: Counter[str] = Counter()
        self.peers = {ip_address(ONE[0]): Caller("friend", may_ask=True)}
        self.api = PeerApi(self._who, self._echo, lambda w: self.counted.update([w]), bound=False)
        self.api.want([ip_address(text) for text in TWO])
        pair.two.door = self.api.door

    def _who(self, ip: IPAddress) -> Caller | None:
        return self.peers.get(ip)

    async def _echo(self, message: bytes) -> bytes:
        return b"answer to " + message

    async def connect(self, host: str = TWO[0]) -> Streams:
        """A connection of the peer; to the IPv6 address, it has another one."""
        at = port_of(ip_address(host))
        connection = await self.pair.dialer.connect(host, at)
        ours, theirs = socket.socketpair()
        connection.join(theirs.detach(), b"")
        return await asyncio.open_connection(sock=ours)

    async def post(self, body: bytes, *, said: int | None = None, host: str = TWO[0]) -> bytes:
        """The answer to a question whose size is said to be ``said``."""
        reader, writer = await self.connect(host)
        head = (
            f"POST /dns-query HTTP/1.1\r\nHost: {AddrPort.of(host, port_of(ip_address(host)))}\r\n"
            f"Content-Type: application/dns-message\r\nConnection: close\r\n"
            f"Content-Length: {len(body) if said is None else said}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """Two stacks and the server."""
    failures: list[str] = []
    async with asyncio.timeout(15), two_stacks(failures) as pair:
        rig = Rig(pair)
        yield rig
        await rig.api.close()
    assert failures == []


async def test_it_listens_at_each_address_without_a_socket(rig: Rig) -> None:
    """At the port by formula: nothing of the host can be in the way."""
    assert [str(at.ip) for at in rig.api.listening] == list(TWO)
    assert rig.api.port(4) == PORT


async def test_the_peer_is_who_the_stack_says(rig: Rig) -> None:
    """It may ask; whose address is nobody's is turned away; who has no right is told so."""
    answer = await rig.post(b"abc")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"answer to abc")
    assert (await rig.post(b"abc", host=TWO[1])).startswith(b"HTTP/1.1 503")
    rig.peers[ip_address(ONE[1])] = Caller("guest", may_ask=False)
    assert (await rig.post(b"abc", host=TWO[1])).startswith(b"HTTP/1.1 403")
    assert rig.counted == {"query": 1, "error_stranger": 1, "error_forbidden": 1}


async def test_a_huge_question_is_refused(rig: Rig) -> None:
    """Before it is sent."""
    assert (await rig.post(b"", said=MAX_MESSAGE + 1)).startswith(b"HTTP/1.1 413")


async def test_a_hostile_peer_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its silent connections take no more than their share."""
    monkeypatch.setattr(aio, "MAX_OF_ONE", 3)
    silent = await asyncio.gather(*(rig.connect() for _ in range(8)))
    over = [asyncio.ensure_future(reader.read()) for reader, _ in silent]
    while sum(task.done() for task in over) < 5:
        await asyncio.wait(
            [task for task in over if not task.done()], return_when="FIRST_COMPLETED"
        )
    assert all(task.result().startswith(b"HTTP/1.1 503") for task in over if task.done())
    assert rig.counted["error_busy"] == 5
    rig.peers[ip_address(ONE[1])] = Caller("friend too", may_ask=True)
    assert (await rig.post(b"abc", host=TWO[1])).startswith(b"HTTP/1.1 200")
    for _, writer in silent:
        writer.close()
    await asyncio.gather(*over)


async def test_it_ends_with_the_addresses(rig: Rig) -> None:
    """Who is connected hears the end, and the port is the host's again."""
    reader, writer = await rig.connect()
    rig.api.want([])
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(DialError) as caught:
        await rig.connect()
    assert caught.value.failure is Failure.REFUSED
