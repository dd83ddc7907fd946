"""Questions to servers on loopback that answer well, badly, late or not at all."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from itertools import pairwise
from typing import cast

from dnslib import RR, DNSRecord

from tailnet.agent.dns.forward.aio import MAX_ACTIVE, Forwarded, Forwarder
from tailnet.agent.dns.message import SERVFAIL, TC, Query, parse_question_untrusted
from tailnet.agent.dns.upstream import Https
from tailnet.agent.tailcfg.dns import Resolver

Answers = Callable[[bytes], bytes]
NOBODY = Resolver(addr="127.0.0.1:1")  # no port that another program is given while we look


def good(asked: bytes) -> bytes:
    """An address, with the question as it was asked."""
    parsed = DNSRecord.parse(asked).reply()
    parsed.add_answer(*RR.fromZone("example.com 60 A 203.0.113.7"))
    question = asked[12 : asked.index(0, 12) + 5]
    return asked[:2] + bytes(parsed.pack())[2:10] + bytes(2) + question + _records(parsed)


def _records(parsed: DNSRecord) -> bytes:
    ip = ip_address(str(parsed.a.rdata)).packed
    return b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + ip


def short(asked: bytes) -> bytes:
    """As if it had been too long for UDP."""
    data = bytearray(good(asked))
    data[2:4] = (int.from_bytes(data[2:4]) | TC).to_bytes(2)
    return bytes(data)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer, unless there is nothing to say."""
        if said := self._answers(data):
            self._transport.sendto(said, addr)


@asynccontextmanager
async def server(udp: Answers | None, tcp: Answers | None = None) -> AsyncIterator[Resolver]:
    """One port of loopback, by UDP and TCP; without a way nobody listens."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that has its answer by UDP hangs up.
        with contextlib.closing(writer), contextlib.suppress(EOFError, OSError):
            asked = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            assert tcp is not None
            said = tcp(asked)
            writer.write(len(said).to_bytes(2) + said)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    if tcp is None:
        listener.close()
    transport = None
    if udp is not None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Udp(udp), ("127.0.0.1", port)
        )
    try:
        yield Resolver(addr=f"127.0.0.1:{port}")
    finally:
        listener.close()
        if transport is not None:
            transport.close()


async def _no_https(_: Https, __: bytes) -> bytes:
    raise OSError


def forwarder(https: Callable[[Https, bytes], object] = _no_https) -> Forwarder:
    """With the kernel's sockets."""
    return Forwarder(https, random_bytes=os.urandom)  # type: ignore[arg-type]


def query(*, tcp: bool = False) -> Query:
    """For ``example.com``."""
    data = bytes(DNSRecord.question("example.com", "A").pack())
    return Query(parse_question_untrusted(data), data, tcp)


def address(forwarded: Forwarded) -> str:
    """What the client reads."""
    assert forwarded.data is not None
    return str(DNSRecord.parse(forwarded.data).a.rdata)


async def test_an_answer_by_udp_comes_back() -> None:
    """From the one who gave it."""
    async with server(good) as resolver:
        got = await forwarder().resolve(query(), (resolver,))
        assert address(got) == "203.0.113.7"
        assert got.server is not None


async def test_where_nobody_listens_by_udp_tcp_is_tried() -> None:
    """The kernel says so by ICMP, at once."""
    async with server(None, good) as resolver:
        assert address(await forwarder().resolve(query(), (resolver,))) == "203.0.113.7"


async def test_a_client_by_tcp_gets_the_whole_answer() -> None:
    """And not the short one, which is quicker."""
    async with server(short, good) as resolver:
        got = await forwarder().resolve(query(tcp=True), (resolver,))
        assert got.data is not None
        assert not int.from_bytes(got.data[2:4]) & TC


async def test_one_dead_server_does_not_delay_the_other() -> None:
    """They are asked together."""
    async with server(lambda _: b"") as dead, server(good) as alive:
        assert (
            address(
                await forwarder().resolve(
                    query(),
                    (
                        dead,
                        alive,
                    ),
                )
            )
            == "203.0.113.7"
        )


async def test_an_answer_by_https_counts_like_any_other() -> None:
    """Known resolvers are asked so first."""
    asked: list[str] = []

    async def post(to: Https, data: bytes) -> bytes:
        asked.append(to.url)
        return good(data)

    got = await forwarder(post).resolve(query(), (Resolver(addr="https://dns.google/dns-query"),))
    assert address(got) == "203.0.113.7"
    assert asked == ["https://dns.google/dns-query"]


async def test_without_anybody_to_ask_the_answer_is_immediate() -> None:
    """A failure, in our own name."""
    got = await forwarder().resolve(query(), (Resolver(addr="tls://1.1.1.1"),))
    assert got.data is not None
    assert got.server is None
    assert DNSRecord.parse(got.data).header.rcode == SERVFAIL


async def test_all_refusing_is_a_failure_and_leaves_nothing_open() -> None:
    """Descriptors before and after."""
    before = len(os.listdir("/proc/self/fd"))
    got = await forwarder().resolve(query(), (NOBODY, NOBODY))
    assert got.data is not None
    assert DNSRecord.parse(got.data).header.rcode == SERVFAIL
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= before  # of earlier tests, some may be gone


async def test_a_client_that_gives_up_leaves_nothing_open() -> None:
    """Cancelled in the middle."""
    asked = asyncio.Event()

    def silent(_: bytes) -> bytes:
        asked.set()
        return b""

    async with server(silent) as dead:
        before = len(os.listdir("/proc/self/fd"))
        task = asyncio.create_task(forwarder().resolve(query(), (dead,)))
        await asked.wait()
        assert len(os.listdir("/proc/self/fd")) > before
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(os.listdir("/proc/self/fd")) <= before  # of earlier tests, some may be gone


async def test_each_question_has_a_port_of_its_own_that_nobody_can_know() -> None:
    """Neither the last one again nor the next one after it."""
    ports: list[int] = []
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("127.0.0.1", 0))

        def answer() -> None:
            asked, src = sock.recvfrom(4096)
            ports.append(src[1])
            sock.sendto(good(asked), src)

        loop.add_reader(sock.fileno(), answer)
        resolver = Resolver(addr=f"127.0.0.1:{sock.getsockname()[1]}")
        asking = forwarder()
        for _ in range(100):
            assert address(await asking.resolve(query(), (resolver,))) == "203.0.113.7"
        loop.remove_reader(sock.fileno())
    assert len(set(ports)) > 90  # of 28,232, some may come twice
    steps = [after - before for before, after in pairwise(ports)]
    assert len(set(steps)) > 90


async def test_too_many_questions_at_once_are_dropped_and_counted() -> None:
    """No queue grows without bound."""
    async with server(lambda _: b"") as dead:
        asking = forwarder()
        tasks = [asyncio.create_task(asking.resolve(query(), (dead,))) for _ in range(MAX_ACTIVE)]
        await asyncio.sleep(0)
        assert await asking.resolve(query(), (dead,)) == Forwarded(None, None)
        assert asking.counters["error_queue"] == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
