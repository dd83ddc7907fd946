"""The race of addresses, on loopback."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tailnet.agent.derp.dial.aio import Address, race

LONG = 3600.0  # s; whoever waits for it has failed


def listen(family: socket.AddressFamily, host: str) -> socket.socket:
    """A server that accepts in its backlog."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((host, 0))
    sock.listen()
    return sock


def at(sock: socket.socket) -> Address:
    """Where it listens."""
    host, port = sock.getsockname()[:2]
    return sock.family, (host, port)


def unmarked(_: socket.socket) -> None:
    """No bypass."""


@pytest.fixture
def v4() -> Iterator[socket.socket]:
    """A server."""
    with closing(listen(socket.AF_INET, "127.0.0.1")) as sock:
        yield sock


@pytest.fixture
def v6() -> Iterator[socket.socket]:
    """A server."""
    with closing(listen(socket.AF_INET6, "::1")) as sock:
        yield sock


async def test_ipv6_has_a_head_start(v4: socket.socket, v6: socket.socket) -> None:
    """IPv4 would be as fast."""
    with closing(await race([at(v4), at(v6)], unmarked, LONG)) as sock:
        assert sock.family == socket.AF_INET6


async def test_ipv4_starts_at_once_when_ipv6_fails(v4: socket.socket, v6: socket.socket) -> None:
    """Nobody waits for what is refused."""
    gone = at(v6)
    v6.close()
    with closing(await race([gone, at(v4)], unmarked, LONG)) as sock:
        assert sock.family == socket.AF_INET


async def test_ipv4_alone_waits_for_nobody(v4: socket.socket) -> None:
    """There is no IPv6 address to be slower than."""
    with closing(await race([at(v4)], unmarked, LONG)) as sock:
        assert sock.family == socket.AF_INET


async def test_all_refused_is_an_error(v4: socket.socket, v6: socket.socket) -> None:
    """The first one's."""
    gone = [at(v4), at(v6)]
    v4.close()
    v6.close()
    with pytest.raises(ConnectionRefusedError):
        await race(gone, unmarked, LONG)
