"""Nodes in their order and the race of addresses, on loopback."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tailnet.agent import clock
from tailnet.agent.derp.dial import aio
from tailnet.agent.derp.dial.aio import HEAD_START, Address, Dialer, race
from tailnet.agent.tailcfg.derpmap import DERPNode, DERPRegion

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


def dialer() -> Dialer:
    """As of a daemon in a lab."""
    return Dialer(mark=unmarked, wall=clock.wall, ca_file=None, plain_http=True, environ={})


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


async def test_the_first_relay_that_answers_is_told_which_was_wanted(v4: socket.socket) -> None:
    """The first of the map that relays; one with STUN alone is passed over, although it answers."""
    _, (host, port) = at(v4)
    with closing(listen(socket.AF_INET, host)) as gone:
        _, (_, closed) = at(gone)

    def node(name: str, port: int, *, stun_only: bool = False) -> DERPNode:
        return DERPNode(
            name=name, host_name=name, ipv4=host, ipv6="none", derp_port=port, stun_only=stun_only
        )

    nodes = (node("s", port, stun_only=True), node("a", closed), node("b", port))
    found, sock, request = await dialer().connect(DERPRegion(region_id=1, nodes=nodes))
    sock.close()
    assert found.name == "b"
    assert b"\r\nIdeal-Node: a\r\n" in request
    found, sock, request = await dialer().connect(DERPRegion(region_id=1, nodes=nodes[2:]))
    sock.close()
    assert b"Ideal-Node" not in request
    with pytest.raises(OSError, match="no relay"):
        await dialer().connect(DERPRegion(region_id=1, nodes=nodes[:1]))


@pytest.mark.parametrize("works", [True, False])
async def test_ipv6_goes_first_where_it_is_known_to_work(
    v4: socket.socket, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """By 200 ms; a machine whose IPv6 leads nowhere waits for nothing."""
    asked: list[float] = []

    async def note(
        addresses: list[Address], mark: object, head_start: float = 0.0
    ) -> socket.socket:
        asked.append(head_start)
        return await race(addresses, unmarked)

    monkeypatch.setattr(aio, "race", note)
    it = dialer()
    it.ipv6_works = works
    _, (host, port) = at(v4)
    node = DERPNode(name="a", host_name="a", ipv4=host, ipv6="none", derp_port=port)
    _, sock, _ = await it.connect(DERPRegion(region_id=1, nodes=(node,)))
    sock.close()
    assert asked == [HEAD_START if works else 0.0]


async def test_a_family_that_the_map_switches_off_is_not_resolved(v4: socket.socket) -> None:
    """By what is no address, as ``none``; the name would lead there."""
    _, (_, port) = at(v4)

    def region(ipv4: str, ipv6: str) -> DERPRegion:
        node = DERPNode(name="a", host_name="localhost", ipv4=ipv4, ipv6=ipv6, derp_port=port)
        return DERPRegion(region_id=1, nodes=(node,))

    _, sock, _ = await dialer().connect(region("", "none"))
    with closing(sock):
        assert sock.family == socket.AF_INET
    with pytest.raises(OSError):  # noqa: PT011 - the resolver's or the kernel's words
        await dialer().connect(region("none", ""))
