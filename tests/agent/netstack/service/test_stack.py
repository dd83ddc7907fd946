"""Ports at both stacks; packets by hand, streams from a real stack in front of the native one."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_interface, ip_network

import pytest
from tests.support.netstacks import native_stack
from tests.support.packets import checksums_hold, tcp, udp

from tailnet.agent.addr import AddrPort
from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.interface import DialError
from tailnet.agent.netstack.service.framing import frame
from tailnet.agent.netstack.service.interface import MAX_CONNECTIONS, MAX_QUERIES, MAX_TCP_QUERY
from tailnet.agent.netstack.service.plain.aio import PlainStack
from tailnet.agent.netstack.service.ports.aio import ServicePorts
from tailnet.agent.netstack.service.stack.aio import Services, ServiceStack
from tailnet.platform.interface import RouterConfig

ME, SERVICE = "100.64.0.1", "100.100.100.100"
PLAIN = bytes(10)


def native(fd: int) -> ServiceStack:
    """The one in Rust, where it is built."""
    pytest.importorskip("tailnet_native")
    return native_stack(fd)


class Echo:
    """Says each query again, when it is allowed to."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.asked: list[bytes] = []

    async def __call__(self, query: bytes, src: AddrPort, *, tcp: bool) -> bytes | None:
        """``None`` for nothing."""
        self.asked.append(query)
        await self.may.wait()
        said = query + str(src.ip).encode() + bytes((tcp,))
        return None if query == b"nothing" else said


@contextlib.asynccontextmanager
async def served(
    make: Callable[[int], ServiceStack], echo: Echo, idle: float = 45
) -> AsyncIterator[tuple[socket.socket, Services]]:
    """The datapath's end, and the services."""
    services = Services(ServicePorts({53: echo}, idle=idle), make)
    await services.start()
    with socket.socket(fileno=services.detach()) as end:
        yield end, services
        await services.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let everything run until it holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - several things may make it true
            await asyncio.sleep(0)


async def read(sock: socket.socket) -> bytes:
    """One message."""
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 70_000)


@pytest.mark.parametrize("make", [native, PlainStack])
async def test_a_query_by_udp_is_answered(make: Callable[[int], ServiceStack]) -> None:
    """From the address and port it was sent to."""
    async with served(make, Echo()) as (end, _):
        end.send(PLAIN + udp(ME, SERVICE, b"nothing"))
        end.send(PLAIN + udp(ME, SERVICE, b"who?"))
        answer = await read(end)
        assert checksums_hold(answer[10:])
        assert answer[22:30] == bytes((100, 100, 100, 100, 100, 64, 0, 1))
        assert answer[30:34] == bytes((0, 53, 1000 >> 8, 1000 & 255))
        assert answer[38:] == b"who?100.64.0.1\0"


@pytest.mark.parametrize("make", [native, PlainStack])
async def test_too_many_queries_are_dropped_and_counted(
    make: Callable[[int], ServiceStack],
) -> None:
    """Those before are answered."""
    echo = Echo()
    echo.may.clear()
    async with served(make, echo) as (end, services):
        for number in range(MAX_QUERIES + 3):
            await asyncio.get_running_loop().sock_sendall(end, PLAIN + udp(ME, SERVICE, b"q"))
            if number % 32 == 0:  # no more than the stack keeps while nobody reads its events
                await until(lambda least=number: len(echo.asked) >= min(least, MAX_QUERIES))  # type: ignore[misc]
        await until(lambda: services.drops().get("queries") == 3)
        assert len(echo.asked) == MAX_QUERIES
        echo.may.set()
        for _ in range(MAX_QUERIES):
            assert (await read(end))[38:39] == b"q"


async def test_the_plain_stack_refuses_tcp_and_counts_nonsense() -> None:
    """And goes on."""
    async with served(PlainStack, Echo()) as (end, services):
        end.send(b"nonsense")
        end.send(PLAIN + tcp(ME, SERVICE, flags=2, dport=53))
        assert (await read(end))[43] == 0x14
        assert services.drops() == {"ignored": 1}


@pytest.mark.parametrize("make", [native, PlainStack])
async def test_a_datapath_that_ends_is_noticed_once(make: Callable[[int], ServiceStack]) -> None:
    """The loop does not spin on a dead descriptor."""
    async with served(make, Echo()) as (end, services):
        end.close()
        await until(lambda: not services._alive)


@contextlib.asynccontextmanager
async def client(end: socket.socket) -> AsyncIterator[Userspace]:
    """A stack in the operating system's place."""
    loop = asyncio.get_running_loop()
    stack = Userspace(native_stack, now=loop.time, on_failed=pytest.fail)
    tun = stack.open_tun().detach()

    def carry(source: int, sink: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(source, 70_000):
                os.write(sink, data)

    loop.add_reader(tun, carry, tun, end.fileno())
    loop.add_reader(end, carry, end.fileno(), tun)
    await stack.start()
    routes = frozenset((ip_network(SERVICE),))
    await stack.apply(RouterConfig(frozenset((ip_interface(ME),)), routes))
    yield stack
    loop.remove_reader(tun)
    loop.remove_reader(end)
    await stack.close()
    os.close(tun)


async def connect(stack: Userspace, port: int = 53) -> socket.socket:
    """A connection to the services."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        async with asyncio.timeout(5):
            made = await stack.dial(AddrPort.of(ME, 0).ip, AddrPort.of(SERVICE, port))
    except BaseException:
        ours.close()
        theirs.close()
        raise
    made.join(theirs.detach(), b"")
    return ours


async def answers(sock: socket.socket, size: int) -> bytes:
    """That many bytes."""
    data = b""
    async with asyncio.timeout(5):
        while len(data) < size:
            more = await asyncio.get_running_loop().sock_recv(sock, 70_000)
            assert more
            data += more
    return data


async def test_queries_by_tcp_are_pipelined() -> None:
    """More than are answered at once; all get their answer."""
    pytest.importorskip("tailnet_native")
    async with served(native, Echo()) as (end, _), client(end) as stack:
        with await connect(stack) as sock:
            queries = [bytes((n,)) * 20 for n in range(1, 40)]
            await asyncio.get_running_loop().sock_sendall(sock, b"".join(map(frame, queries)))
            wanted = sorted(frame(query + b"100.64.0.1\1") for query in queries)
            got = await answers(sock, sum(map(len, wanted)))
            size = len(wanted[0])
            assert sorted(got[i : i + size] for i in range(0, len(got), size)) == wanted


async def test_other_ports_are_refused() -> None:
    """With a reset."""
    pytest.importorskip("tailnet_native")
    async with served(native, Echo()) as (end, _), client(end) as stack:
        with pytest.raises(DialError, match="refused"):
            _ = await connect(stack, 80)


@pytest.mark.parametrize("say", [b"", b"\0\1", (MAX_TCP_QUERY + 1).to_bytes(2, "big")])
async def test_silence_and_nonsense_end_a_connection(say: bytes) -> None:
    """The client sees its end."""
    pytest.importorskip("tailnet_native")
    async with served(native, Echo(), idle=0.05) as (end, _), client(end) as stack:
        with await connect(stack) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, say)
            assert await read(sock) == b""


async def test_too_many_connections_are_refused_until_one_ends() -> None:
    """Counted."""
    pytest.importorskip("tailnet_native")
    ports = ServicePorts({53: Echo()})
    src = AddrPort.of(ME, 1)
    made = [ports.connect(53, src) for _ in range(MAX_CONNECTIONS)]
    assert ports.connect(53, src) is None
    assert ports.dropped == {"connections": 1}
    for sock in made:
        assert sock is not None
        sock.close()
    await until(lambda: not ports._connections)
    again = ports.connect(53, src)
    assert again is not None
    again.close()
    await ports.close()
