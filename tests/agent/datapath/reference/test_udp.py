"""Segmentation offload, and what happens where it is refused."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.datapath import udp_socket

from tailnet.agent.datapath.interface import UdpPort
from tailnet.agent.datapath.reference.udp.aio import UdpSocket

DATA = bytes(range(250)) * 4  # four datagrams of 250 bytes


class Refusing:
    """A socket that refuses sends with the errors it is given, then takes everything."""

    def __init__(self, *, segmented: int = 0, single: list[int] | None = None) -> None:
        self.segmented = segmented
        self.single = single or []
        self.sent: list[bytes] = []
        self.family = socket.AF_INET

    def sendmsg(self, buffers: list[memoryview], *_: Any) -> None:  # noqa: ANN401
        """A segmented send."""
        if self.segmented:
            raise OSError(self.segmented, "refused")
        self.sent.append(bytes(buffers[0]))

    def sendto(self, data: memoryview, _: object) -> None:
        """One datagram."""
        if self.single:
            code = self.single.pop(0)
            raise OSError(code, "refused")
        self.sent.append(bytes(data))


@pytest.fixture
def pair() -> Iterator[tuple[UdpSocket, socket.socket]]:
    """The socket under test and a plain one."""
    other, mine = udp_socket(), udp_socket()
    sock = UdpSocket(UdpPort(mine.detach(), socket.AF_INET, gso=True, gro=False))
    yield sock, other
    sock.close()
    other.close()


def with_fake(sock: UdpSocket, fake: Refusing) -> UdpSocket:
    """The same socket over a kernel that refuses."""
    sock._sock.close()
    sock._sock = fake  # type: ignore[assignment]
    fake.close = lambda: None  # type: ignore[attr-defined]
    return sock


def test_a_run_arrives_as_its_datagrams(pair: tuple[UdpSocket, socket.socket]) -> None:
    """One system call, many datagrams, the last one short."""
    sock, other = pair
    other.setblocking(True)
    other.settimeout(5)
    assert sock.send(memoryview(DATA[:-50]), 250, other.getsockname()) == 0
    got = [other.recv(2000) for _ in range(4)]
    assert got == [DATA[:250], DATA[250:500], DATA[500:750], DATA[750:-50]]


def test_more_than_64_segments_take_more_calls(pair: tuple[UdpSocket, socket.socket]) -> None:
    """And more than 65,507 bytes do too."""
    fake = Refusing()
    sock = with_fake(pair[0], fake)
    sock.send(memoryview(bytes(130)), 1, ("127.0.0.1", 9))
    assert [len(d) for d in fake.sent] == [64, 64, 2]
    fake.sent.clear()
    sock.send(memoryview(bytes(60 * 1312)), 1312, ("127.0.0.1", 9))
    assert [len(d) for d in fake.sent] == [49 * 1312, 11 * 1312]


def test_eio_turns_segmentation_off_and_nothing_is_lost(
    pair: tuple[UdpSocket, socket.socket],
) -> None:
    """The device has no checksum offload: it never will."""
    fake = Refusing(segmented=errno.EIO)
    sock = with_fake(pair[0], fake)
    assert sock.send(memoryview(DATA), 250, ("127.0.0.1", 9)) == 0
    assert b"".join(fake.sent) == DATA
    assert len(fake.sent) == 4
    fake.segmented = 0
    sock.send(memoryview(DATA), 250, ("127.0.0.1", 9))
    assert len(fake.sent) == 8


def test_a_size_error_falls_back_once(pair: tuple[UdpSocket, socket.socket]) -> None:
    """A path with a small MTU says nothing about the next one."""
    fake = Refusing(segmented=errno.EINVAL)
    sock = with_fake(pair[0], fake)
    assert sock.send(memoryview(DATA), 250, ("127.0.0.1", 9)) == 0
    assert len(fake.sent) == 4
    fake.segmented = 0
    sock.send(memoryview(DATA), 250, ("127.0.0.1", 9))
    assert len(fake.sent) == 5


def test_an_error_for_one_datagram_is_returned(pair: tuple[UdpSocket, socket.socket]) -> None:
    """The caller reports the path."""
    sock = with_fake(pair[0], Refusing(single=[errno.ENETUNREACH]))
    assert sock.send(memoryview(b"x"), 1, ("127.0.0.1", 9)) == errno.ENETUNREACH


def test_a_full_socket_keeps_order_in_its_backlog(pair: tuple[UdpSocket, socket.socket]) -> None:
    """What comes later waits behind what was refused."""
    fake = Refusing(segmented=errno.EAGAIN)
    sock = with_fake(pair[0], fake)
    dst = ("127.0.0.1", 9)
    assert sock.send(memoryview(DATA), 250, dst) == 0
    assert sock.send(memoryview(b"later"), 5, dst) == 0
    assert fake.sent == []
    assert sock.drain() == 0
    assert len(sock.backlog) == 2
    fake.segmented = 0
    fake.single = [errno.EMSGSIZE]
    assert sock.drain() == 1
    assert fake.sent == [DATA]
    assert not sock.backlog


def test_the_backlog_is_bounded(pair: tuple[UdpSocket, socket.socket]) -> None:
    """Beyond it the caller is told."""
    sock = with_fake(pair[0], Refusing(segmented=errno.EAGAIN))
    big = memoryview(bytes(60_000))
    results = {sock.send(big, 1200, ("127.0.0.1", 9)) for _ in range(80)}
    assert results == {0, errno.EAGAIN}
