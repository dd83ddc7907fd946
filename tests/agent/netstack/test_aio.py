"""The shells with the real native stack: two of them, joined by a loop that carries packets."""

import asyncio
import contextlib
import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support.netstacks import ONE, TWO, Pair, by_the_system, native_stack, two_stacks

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.errors import UserError
from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.dialer.aio import Dialer
from tailnet.agent.netstack.interface import Connection, DialError, Failure
from tailnet.agent.netstack.proxy.aio import HTTP, SOCKS5, ProxyServer
from tailnet.agent.netstack.socks5 import encode_address, encode_datagram

pytest.importorskip("tailnet_native", reason="needs the native extension")

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Two stacks; nothing may fail."""
    failures: list[str] = []
    async with asyncio.timeout(15), two_stacks(failures) as pair:
        yield pair
    assert failures == []


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """A server on loopback; its port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the other side ends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def joined(
    connection: Connection, early: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams at our end of it."""
    ours, theirs = socket.socketpair()
    connection.join(theirs.detach(), early)
    return await asyncio.open_connection(sock=ours)


@pytest.mark.parametrize("host", [*TWO, "two"])
async def test_dialled_bytes_arrive_and_come_back(pair: Pair, host: str) -> None:
    """Both families and a name; early bytes come first; half close is passed on."""
    async with serving(echo) as port:
        connection = await pair.dialer.connect(host, port)
        assert str(connection.local.ip) in ONE
        reader, writer = await joined(connection, b"early ")
        writer.write(b"and late" * 100_000)
        writer.write_eof()
        assert await reader.read() == b"early " + b"and late" * 100_000
        writer.close()


async def test_a_port_nobody_listens_on_is_refused(pair: Pair) -> None:
    """At once, by a reset."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DialError) as caught:
            await pair.dialer.connect(TWO[0], unused.getsockname()[1])
    assert caught.value.failure is Failure.REFUSED


async def test_our_own_address_is_this_host(pair: Pair) -> None:
    """As is everything outside the tailnet."""
    async with serving(echo) as port:
        for host in (ONE[0], "127.0.0.1"):
            reader, writer = await joined(await pair.dialer.connect(host, port), b"hello")
            writer.write_eof()
            assert await reader.read() == b"hello"
            writer.close()


async def test_a_cancelled_dial_leaves_nothing(pair: Pair) -> None:
    """Nobody answers at that address."""
    task = asyncio.ensure_future(pair.dialer.connect("100.64.0.77", 80))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_datagrams_reach_loopback_and_answers_their_sender(pair: Pair) -> None:
    """With the address they were sent to as the source."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        target = AddrPort.of(TWO[1], server.getsockname()[1])
        got: asyncio.Queue[tuple[AddrPort, bytes]] = asyncio.Queue()
        local = pair.one.datagrams.open(
            ip_address(ONE[1]), lambda source, data: got.put_nowait((source, data))
        )
        assert local is not None
        pair.one.datagrams.send(local, target, b"question")
        data, client = await loop.sock_recvfrom(server, 100)
        assert data == b"question"
        await loop.sock_sendto(server, b"answer", client)
        assert await got.get() == (target, b"answer")


async def test_a_datagram_of_any_size_arrives(pair: Pair) -> None:
    """In fragments inside the tunnel, both ways and families."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        for source, host in zip(ONE, TWO, strict=True):
            target = AddrPort.of(host, server.getsockname()[1])
            got: asyncio.Queue[tuple[AddrPort, bytes]] = asyncio.Queue()
            queue = got.put_nowait
            local = pair.one.datagrams.open(
                ip_address(source), lambda *heard, put=queue: put(heard)
            )
            assert local is not None
            for size in (0, 1232, 1233, 9000, 65_000):
                data = bytes(range(250)) * 260
                pair.one.datagrams.send(local, target, data[:size])
                there, client = await loop.sock_recvfrom(server, 70_000)
                assert there == data[:size]
                await loop.sock_sendto(server, there[::-1], client)
                assert await got.get() == (target, data[:size][::-1])
    assert pair.one.drops() == pair.two.drops() == dict.fromkeys(pair.one.drops(), 0)


async def test_a_datagram_nobody_takes_ends_the_flow_and_is_counted_by_nobody(pair: Pair) -> None:
    """The peer is told by an ICMP message, which its own stack only counts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        target = AddrPort.of(TWO[0], unused.getsockname()[1])
    local = pair.one.datagrams.open(ip_address(ONE[0]), lambda _, __: None)
    assert local is not None
    pair.one.datagrams.send(local, target, b"anybody?")  # once: many fill the stack's queue
    while pair.one.drops()["packets"] == 0:  # noqa: ASYNC110 -- a counter tells nobody
        await asyncio.sleep(0)
    assert pair.two.drops()["datagrams"] == 0


async def test_nobodys_address_and_name_fail_at_once(pair: Pair) -> None:
    """They are asked of nobody outside."""
    for host in ("100.100.0.77", "fd7a:115c:a1e0::77"):
        with pytest.raises(DialError, match="no node of the tailnet has this address") as caught:
            await pair.dialer.connect(host, 80)
        assert caught.value.failure is Failure.NO_PEER
    names = {"h1.x.ts.net": (ip_address(ONE[0]),), "x.ts.net": ()}
    dialer = Dialer(lambda: names, by_the_system, pair.one)
    with pytest.raises(DialError, match=r"h2\.x\.ts\.net: no such host"):
        await dialer.connect("h2.x.ts.net", 80)


async def test_names_are_found_as_the_tailnet_wants(pair: Pair) -> None:
    """Nodes first; then by the tailnet's resolvers, whose no is final; the rest by the system."""
    known = {"db.corp": (ip_address("192.0.2.7"),), "gone.corp": ()}

    async def lookup(host: str) -> tuple[IPAddress, ...] | None:
        return known.get(host)

    dialer = Dialer(lambda: {"one": (ip_address(ONE[0]),)}, lookup, pair.one)
    assert await dialer.resolve("db.corp", 80) == [AddrPort.of("192.0.2.7", 80)]
    assert await dialer.resolve("one", 80) == [AddrPort.of(ONE[0], 80)]
    assert AddrPort.of("127.0.0.1", 80) in await dialer.resolve("localhost", 80)
    with pytest.raises(DialError, match=r"gone\.corp: no such host"):
        await dialer.resolve("gone.corp", 80)


@contextlib.asynccontextmanager
async def proxy(
    pair: Pair, *protocols: str, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[str, int]]:
    """A proxy on a free port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        address = AddrPort.of(*probe.getsockname()[:2])
    server = ProxyServer({address: frozenset(protocols)}, pair.dialer)
    await server.start()
    try:
        yield str(address.ip), address.port
    finally:
        await server.close()


async def test_socks5_and_http_share_a_port(pair: Pair) -> None:
    """The first byte decides."""
    async with serving(echo) as port, proxy(pair, SOCKS5, HTTP) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"\x05\x01\x00\x05\x01\x00\x03\x03two" + port.to_bytes(2) + b"hello")
        assert await reader.readexactly(4) == b"\x05\x00\x05\x00"
        writer.write_eof()
        assert (await reader.read())[-5:] == b"hello"
        writer.close()

        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"CONNECT two:%d HTTP/1.1\r\n\r\nhello" % port)
        writer.write_eof()
        assert await reader.read() == b"HTTP/1.1 200 Connection established\r\n\r\nhello"
        writer.close()


async def test_a_protocol_that_is_not_served_is_hung_up_on(pair: Pair) -> None:
    """SOCKS5 only, and HTTP comes."""
    async with proxy(pair, SOCKS5) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET http://two/ HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_socks5_datagrams_go_there_and_back(pair: Pair) -> None:
    """Into the tailnet and to this host; others may not use the port."""
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        for sock in (server, client):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        async with proxy(pair, SOCKS5) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
            reply = await reader.readexactly(12)
            client.connect(("127.0.0.1", int.from_bytes(reply[-2:])))
            for host in (TWO[0], "127.0.0.1"):
                target = AddrPort.of(host, port)
                await loop.sock_sendall(client, encode_datagram(target, b"question"))
                data, source = await loop.sock_recvfrom(server, 100)
                assert data == b"question"
                await loop.sock_sendto(server, b"answer", source)
                answer = await loop.sock_recv(client, 100)
                assert answer == bytes(3) + encode_address(target) + b"answer"
            writer.close()


async def test_a_taken_address_is_one_clear_line(pair: Pair) -> None:
    """With what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = AddrPort.of(*taken.getsockname())
        server = ProxyServer({address: frozenset({HTTP})}, pair.dialer)
        with pytest.raises(
            UserError, match=r"cannot listen for HTTP on .*: Address already in use"
        ):
            await server.start()
        await server.close()


async def test_a_socket_given_to_a_stack_that_has_ended_is_closed() -> None:
    """At once, though somebody still holds the stack: its owner reads an end."""
    async with serving(echo) as port, two_stacks([]) as pair:
        connection = await pair.dialer.connect(TWO[0], port)
    reader, writer = await joined(connection)
    async with asyncio.timeout(15):
        assert await reader.read() == b""
    writer.close()


async def test_no_descriptor_is_left() -> None:
    """After connections of every kind and the end of both stacks."""

    def count() -> int:
        gc.collect()  # a stack's eventfds live as long as the object
        return len(list(Path("/proc/self/fd").iterdir()))

    async def use() -> None:
        async with serving(echo) as port, two_stacks([]) as pair:
            for _ in range(5):
                reader, writer = await joined(await pair.dialer.connect(TWO[0], port), b"x")
                assert await reader.readexactly(1) == b"x"
                writer.close()
            with pytest.raises(DialError):
                await pair.dialer.connect(TWO[0], 1)
            reader, writer = await joined(await pair.dialer.connect(TWO[0], port))
        assert await reader.read() == b""  # the stack's end is ours too
        writer.close()
        await asyncio.sleep(0)

    async with asyncio.timeout(15):
        await use()
        before = count()
        await use()
        await asyncio.sleep(0)
    assert count() <= before


async def test_the_end_of_the_datapath_is_a_failure() -> None:
    """The daemon is told why it cannot go on."""
    told = asyncio.get_running_loop().create_future()
    stack = Userspace(native_stack, now=asyncio.get_running_loop().time, on_failed=told.set_result)
    await stack.start()
    os.close(stack.open_tun().detach())
    async with asyncio.timeout(5):
        assert (await told).startswith("userspace networking stopped: ")
    await stack.close()


SOCKS_GARBAGE = {
    b"\x05\x01\x02": b"\x05\xff",  # only a method we do not have
    b"\x05\x00": b"\x05\xff",
    b"\x05\x01\x00\x05\x02\x00\x01" + bytes(6): b"\x05\x00\x05\x07\x00\x01" + bytes(6),
    b"\x05\x01\x00\x05\x01\x00\x09": b"\x05\x00\x05\x08\x00\x01" + bytes(6),
    b"\x05\x01\x00\x05\x01\x00\x03\x02\xff\xfe\0\x50": b"\x05\x00\x05\x01\x00\x01" + bytes(6),
    b"\x05\x01\x00\x04": b"\x05\x00",  # another version in the second message
}
HTTP_GARBAGE = {
    b"\x16\x03\x01\x02\0 TLS\r\n\r\n": b"400 Bad Request",
    b"\x04\x01\0\x50\x7f\0\0\x01user\0\r\n\r\n": b"400 Bad Request",  # SOCKS4
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n": b"400 Bad Request",
    b"CONNECT two HTTP/1.1\r\n\r\n": b"400 Bad Request",
    b"GET http://two/ HTTP/1.1\r\nbroken field\r\n\r\n": b"400 Bad Request",
    b"GET http://two/ HTTP/1.1\r\nX: " + b"y" * 70_000: b"431 Request Header Fields Too Large",
}


async def answer_to(address: tuple[str, int], sent: bytes) -> bytes:
    """Everything until the proxy hangs up."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent)
    got = b""
    with contextlib.suppress(ConnectionResetError):  # it did not read all of it
        while data := await reader.read(65536):
            got += data
    writer.close()
    return got


@pytest.mark.parametrize(("sent", "answer"), SOCKS_GARBAGE.items())
async def test_socks5_garbage_gets_its_error_and_the_end(
    pair: Pair, sent: bytes, answer: bytes
) -> None:
    """From the listener that speaks both."""
    async with proxy(pair, SOCKS5, HTTP) as address:
        assert await answer_to(address, sent) == answer


@pytest.mark.parametrize(("sent", "status"), HTTP_GARBAGE.items())
async def test_http_garbage_gets_its_error_and_the_end(
    pair: Pair, sent: bytes, status: bytes
) -> None:
    """From the listener that speaks both."""
    async with proxy(pair, SOCKS5, HTTP) as address:
        got = await answer_to(address, sent)
        assert got.startswith(b"HTTP/1.1 " + status + b"\r\n")
        assert b"\r\nConnection: close\r\n" in got


async def test_socks5_datagrams_over_ipv6(pair: Pair) -> None:
    """The proxy's client, its association and the peer all have IPv6 addresses."""
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        client.setblocking(False)
        async with proxy(pair, SOCKS5, host="::1") as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"\x05\x01\x00\x05\x03\x00\x04" + bytes(18))
            reply = await reader.readexactly(24)
            assert reply[5] == 4
            client.connect(("::1", int.from_bytes(reply[-2:])))
            target = AddrPort.of(TWO[1], server.getsockname()[1])
            await loop.sock_sendall(client, encode_datagram(target, b"question" * 500))
            data, source = await loop.sock_recvfrom(server, 9000)
            await loop.sock_sendto(server, data[::-1], source)
            answer = await loop.sock_recv(client, 9000)
            assert answer == encode_datagram(target, (b"question" * 500)[::-1])
            writer.close()


async def test_a_client_that_says_nothing_is_hung_up_on(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while; half a greeting, request or head is nothing too."""
    monkeypatch.setattr("tailnet.agent.netstack.proxy.aio.PATIENCE", 0.05)
    async with proxy(pair, SOCKS5, HTTP) as address:
        for sent, answer in (
            (b"", b""),
            (b"\x05", b""),
            (b"\x05\x01\x00\x05\x01", b"\x05\x00"),
            (b"CONNECT two:80 HTTP/1.1\r\n", b""),
        ):
            assert await answer_to(address, sent) == answer


async def test_a_server_that_resets_is_a_reset_for_the_client(pair: Pair) -> None:
    """Not an ordinary end."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(reset) as port, proxy(pair, SOCKS5) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"\x05\x01\x00\x05\x01\x00\x03\x03two" + port.to_bytes(2))
        await reader.readexactly(12)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
