"""The server at loopback addresses, which stand for our own."""

import asyncio
import socket
from collections import Counter
from ipaddress import ip_address

import pytest

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.errors import BadPacket
from tailnet.agent.peerapi import aio
from tailnet.agent.peerapi.aio import Caller, PeerApi
from tailnet.agent.peerapi.ports import port_of

HERE, THERE = ip_address("127.0.0.81"), ip_address("127.0.0.82")
FRIEND, GUEST, STRANGER = "127.0.1.1", "127.0.1.2", "127.0.1.3"


async def echo(message: bytes) -> bytes:
    """What it was asked."""
    if message == b"nonsense":
        raise BadPacket(message.decode())
    if message == b"nobody":
        raise OSError(message.decode())
    return b"answer to " + message


def who(ip: IPAddress) -> Caller | None:
    """Two peers."""
    return {FRIEND: Caller("friend", may_ask=True), GUEST: Caller("guest", may_ask=False)}.get(
        str(ip)
    )


async def status(to: AddrPort, source: str, message: bytes) -> str:
    """Of one POST; empty if there is no connection."""
    head = (
        f"POST /dns-query HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/dns-message\r\n"
        f"Content-Length: {len(message)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(str(to.ip), to.port, local_addr=(source, 0))
    try:
        writer.write(head.encode() + message)
        said = (await reader.read()).decode()
    finally:
        writer.close()
    return said.partition(" ")[2][:3] + (said[-13:] if "answer to" in said else "")


async def test_who_may_and_who_may_not() -> None:
    """A stranger is turned away, a guest has no right, a friend is answered; each is counted."""
    counted: Counter[str] = Counter()
    api = PeerApi(who, echo, lambda what: counted.update([what]))
    api.want([HERE])
    (at,) = api.listening
    assert at == AddrPort(HERE, port_of(HERE))
    assert await status(at, FRIEND, b"abc") == "200answer to abc"
    assert await status(at, FRIEND, b"nonsense") == "400"
    assert await status(at, FRIEND, b"nobody") == "502"
    assert await status(at, GUEST, b"abc") == "403"
    assert await status(at, STRANGER, b"abc") == "503"
    assert counted == {
        "query": 3,
        "error_name": 1,
        "error_forward": 1,
        "error_forbidden": 1,
        "error_stranger": 1,
    }
    await api.close()


async def test_it_follows_the_addresses_and_takes_another_port() -> None:
    """Where something of the host holds the port by formula; what cannot be bound comes later."""
    api, other = PeerApi(who, echo, print), PeerApi(who, echo, print)
    other.want([HERE])
    api.want([HERE, ip_address("fd7a:115c:a1e0::dead")])
    assert [at.port for at in api.listening] == [port_of(HERE, 1)]
    assert api.listening[0].ip == HERE
    api.want([THERE])
    assert api.listening == (AddrPort(THERE, port_of(THERE)),)
    api.want([])
    assert [api.port(4), api.port(6)] == [0, 0]
    await other.close()
    await api.close()


async def test_whoever_has_the_descriptor_next_is_read() -> None:
    """The end of a listener takes nothing from a socket that gets its number."""
    api = PeerApi(who, echo, print)
    for _ in range(5):
        api.want([HERE])
        await asyncio.sleep(0)
        api.want([])
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            heard = asyncio.create_task(asyncio.get_running_loop().sock_recv(ours, 1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            theirs.send(b"x")
            assert await asyncio.wait_for(heard, 10) == b"x"
    await api.close()


async def test_one_peer_cannot_take_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next of the same address is told to come later; another's is served."""
    monkeypatch.setattr(aio, "MAX_OF_ONE", 2)
    counted: Counter[str] = Counter()
    api = PeerApi(who, echo, lambda what: counted.update([what]))
    api.want([HERE])
    (at,) = api.listening
    idle = [
        await asyncio.open_connection(str(at.ip), at.port, local_addr=(FRIEND, 0)) for _ in range(2)
    ]
    assert await status(at, FRIEND, b"abc") == "503"
    assert await status(at, GUEST, b"abc") == "403"
    assert counted["error_busy"] == 1
    for _, writer in idle:
        writer.close()
    await api.close()
