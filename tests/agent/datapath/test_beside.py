"""What both datapaths do with packets for the daemon's services, and with a tap."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.datapath import (
    ME,
    PEER,
    STRANGER,
    THEM,
    MakeDatapath,
    Rig,
    make_native,
    make_reference,
)
from tests.support.packets import checksums_hold, tcp, udp

from tailnet.agent.datapath import tap
from tailnet.agent.datapath.interface import PeerEntry
from tailnet.agent.datapath.reference.drops import NAMES
from tailnet.agent.datapath.tap import Direction, Tapped
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import PeerId

SERVICE, SERVICE_6 = "100.100.100.100", "fd7a:115c:a1e0::53"
PLAIN = bytes(10)
ASK = udp(ME, SERVICE, b"who?")
ASK_6 = udp("fd7a:115c:a1e0::1", SERVICE_6, b"who?")
TELL = udp(SERVICE, ME, b"you", sport=53, dport=1000)


@pytest.fixture(params=[make_reference, make_native], ids=["reference", "native"])
def make(request: pytest.FixtureRequest) -> MakeDatapath:
    """Each implementation in turn."""
    made: MakeDatapath = request.param
    return made


@pytest.fixture(params=[False, True], ids=["plain", "vnet"])
async def rig(make: MakeDatapath, request: pytest.FixtureRequest) -> Iterator[Rig]:  # type: ignore[misc]
    """A datapath with services, without and with offload."""
    made = Rig(make, vnet_hdr=request.param, service=True)
    yield made
    made.close()


async def read(sock: socket.socket | None) -> bytes:
    """One message."""
    assert sock is not None
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 70_000)


def front(rig: Rig) -> bytes:
    """What the host's packets begin with."""
    return PLAIN if rig.vnet else b""


async def test_packets_to_services_go_to_the_daemon_and_to_no_peer(rig: Rig) -> None:
    """Even where a peer is the way to everywhere; they always have a virtio-net header."""
    everywhere = ip_network("0.0.0.0/0"), ip_network("::/0")
    rig.datapath.set_peers({PEER: PeerEntry((ip_network(THEM), *everywhere))})
    await rig.connect()
    for packet in (ASK, ASK_6, tcp(ME, SERVICE, flags=2, dport=53)):
        rig.host.send(front(rig) + packet)
        assert await read(rig.service) == PLAIN + packet
    rig.host.send(front(rig) + udp(ME, THEM))
    assert rig.open(await rig.receive()).startswith(udp(ME, THEM))
    assert rig.dropped() == {}


async def test_what_services_say_enters(rig: Rig) -> None:
    """A super-packet too: cut where the device takes none."""
    assert rig.service is not None
    rig.service.send(PLAIN + TELL)
    assert await read(rig.host) == front(rig) + TELL
    long = tcp(SERVICE, ME, bytes(2000), sport=53)
    hint = b"\x01\x01\x00\x00" + (1000).to_bytes(2, "little") + b"\x14\x00\x10\x00"
    rig.service.send(hint + long)
    if rig.vnet:
        assert await read(rig.host) == hint + long
        return
    for _ in range(2):
        segment = await read(rig.host)
        assert len(segment) == 1040
        assert checksums_hold(segment)


async def test_a_service_that_ends_harms_no_other_packet(rig: Rig) -> None:
    """Its packets are counted then; peers' go on."""
    await rig.connect()
    assert rig.service is not None
    rig.service.close()
    rig.host.send(front(rig) + ASK)
    rig.host.send(front(rig) + udp(ME, THEM))
    assert rig.open(await rig.receive()).startswith(udp(ME, THEM))
    assert rig.dropped() == {"out_service": 1}


async def test_services_that_do_not_read_lose_packets(rig: Rig) -> None:
    """The queue is bounded, and what does not fit is counted."""
    await rig.connect()
    for _ in range(2000):
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().sock_sendall(rig.host, front(rig) + ASK)
    await asyncio.get_running_loop().sock_sendall(rig.host, front(rig) + udp(ME, THEM))
    _ = await rig.receive()
    assert rig.dropped().keys() == {"out_service"}


async def test_peers_cannot_speak_with_services_nor_for_them(rig: Rig) -> None:
    """Not even an exit node, or where the whole world is ours."""
    everywhere = ip_network("0.0.0.0/0")
    rig.datapath.set_peers({PEER: PeerEntry((everywhere,))})
    rig.datapath.set_local([everywhere])
    await rig.connect()
    rig.send(udp(THEM, SERVICE))
    rig.send(udp(SERVICE, ME, sport=53))
    rig.send(udp(THEM, ME))
    assert await read(rig.host) == front(rig) + udp(THEM, ME)
    assert rig.dropped() == {"in_service": 2}


async def test_without_services_their_packets_go_nowhere(make: MakeDatapath) -> None:
    """They are counted."""
    rig = Rig(make)
    await rig.connect()
    rig.host.send(ASK)
    rig.host.send(udp(ME, THEM))
    _ = await rig.receive()
    assert rig.dropped() == {"out_service": 1}
    rig.close()


class Listener:
    """A tap of a datapath."""

    def __init__(self, rig: Rig) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        rig.datapath.set_tap(theirs.detach())

    async def next(self) -> tuple[Direction, str, PeerId | None, bytes]:
        """The next packet, without its time."""
        got = tap.parse_untrusted(await read(self._sock), NAMES)
        assert got.at > 1_700_000_000 * 10**9
        return got.direction, got.dropped, got.peer, bytes(got.packet)

    def ended(self) -> bool:
        """The datapath gave its end back; ours is closed too."""
        with self._sock:
            return self._sock.recv(1) == b""

    def close(self) -> None:
        """Close the reading end."""
        self._sock.close()


async def test_a_tap_sees_packets_both_ways_without_padding(rig: Rig) -> None:
    """In the clear, with their peer; what was dropped, with the reason."""
    await rig.connect()
    seen = Listener(rig)
    out, back = udp(ME, THEM, b"1"), udp(THEM, ME, b"2")
    rig.host.send(front(rig) + out)
    assert await seen.next() == (Direction.OUT, "", PEER, out)
    rig.send(back)
    assert await seen.next() == (Direction.IN, "", PEER, back)
    rig.send(udp(STRANGER, ME))
    assert await seen.next() == (Direction.IN, "in_source", PEER, udp(STRANGER, ME))
    rig.host.send(front(rig) + udp(ME, STRANGER))
    assert await seen.next() == (Direction.OUT, "out_no_peer", None, udp(ME, STRANGER))
    rig.host.send(front(rig) + ASK)
    assert await seen.next() == (Direction.OUT, "", None, ASK)
    assert rig.service is not None
    rig.service.send(PLAIN + TELL)
    assert await seen.next() == (Direction.IN, "", None, TELL)
    seen.close()


async def test_a_tap_sees_the_segments_of_a_super_packet(make: MakeDatapath) -> None:
    """As they are sealed."""
    rig = Rig(make, vnet_hdr=True)
    await rig.connect()
    seen = Listener(rig)
    hint = b"\x01\x01\x00\x00" + (1000).to_bytes(2, "little") + b"\x14\x00\x10\x00"
    rig.host.send(hint + tcp(ME, THEM, bytes(2500)))
    sizes = []
    for _ in range(3):
        _, _, _, packet = await seen.next()
        assert checksums_hold(packet)
        sizes.append(len(packet))
    assert sizes == [1040, 1040, 540]
    seen.close()
    rig.close()


async def test_a_tap_ends_and_another_begins(rig: Rig) -> None:
    """The descriptor is closed, and no packet is copied any more."""
    await rig.connect()
    first = Listener(rig)
    second = Listener(rig)
    assert first.ended()
    rig.datapath.set_tap(None)
    assert second.ended()
    rig.host.send(front(rig) + udp(ME, THEM))
    _ = await rig.receive()
    assert rig.dropped() == {}


async def test_a_tap_that_is_not_read_loses_copies_and_no_packet(rig: Rig) -> None:
    """They are counted."""
    await rig.connect()
    seen = Listener(rig)
    for _ in range(1000):
        rig.host.send(front(rig) + udp(ME, THEM))
        _ = await rig.receive()
    assert rig.dropped().keys() == {"capture"}
    seen.close()


@given(
    st.builds(
        Tapped,
        st.sampled_from(Direction),
        st.sampled_from(("", *NAMES)),
        st.none() | st.integers(0, (1 << 63) - 1).map(PeerId),
        st.integers(0, (1 << 64) - 1),
        st.binary(max_size=100),
    )
)
def test_a_record_is_read_back(tapped: Tapped) -> None:
    """Every field."""
    assert tap.parse_untrusted(tap.encode(tapped, NAMES), NAMES) == tapped


@given(st.binary(max_size=60))
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """And nothing else is raised."""
    with contextlib.suppress(BadPacket):
        _ = tap.parse_untrusted(data, NAMES)
