"""What both datapaths do with packets for sites (4via6), and with what their stack says."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from tests.support.datapath import (
    PEER,
    MakeDatapath,
    Rig,
    make_native,
    make_reference,
)
from tests.support.packets import checksums_hold, tcp, udp

from tailnet.agent.datapath.interface import PeerEntry

PLAIN = bytes(10)
SITE = "fd7a:115c:a1e0:b1a:0:7:a01:5"  # 10.1.0.5 of site 7
THEM, ME = "fd7a:115c:a1e0::2", "fd7a:115c:a1e0::1"
EVERYTHING = ip_network("::/0")


@pytest.fixture(params=[make_reference, make_native], ids=["reference", "native"])
def make(request: pytest.FixtureRequest) -> MakeDatapath:
    """Each implementation in turn."""
    made: MakeDatapath = request.param
    return made


@pytest.fixture(params=[False, True], ids=["plain", "vnet"])
async def rig(make: MakeDatapath, request: pytest.FixtureRequest) -> Iterator[Rig]:  # type: ignore[misc]
    """A datapath with a stack for sites, without and with offload."""
    made = Rig(make, vnet_hdr=request.param, sites=True, gro=request.param)
    made.datapath.set_peers({PEER: PeerEntry((ip_network(THEM),))})
    made.datapath.set_local([ip_network(ME), ip_network("fd7a:115c:a1e0:b1a:0:7:a01:0/112")])
    await made.connect()
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


async def test_what_is_accepted_for_a_site_goes_to_the_stack(rig: Rig) -> None:
    """With a virtio-net header; all else goes to the host, and no other site's is let in."""
    rig.send(udp(THEM, SITE, b"to a site"))
    assert await read(rig.sites) == PLAIN + udp(THEM, SITE, b"to a site")
    rig.send(udp(THEM, SITE.replace(":7:", ":8:")))
    rig.send(udp(THEM, ME, b"to the host"))
    assert await read(rig.host) == front(rig) + udp(THEM, ME, b"to the host")
    assert rig.dropped() == {"in_not_local": 1}


async def test_what_the_stack_says_goes_to_the_peer(rig: Rig) -> None:
    """Super-packets too, in segments."""
    assert rig.sites is not None
    rig.sites.send(PLAIN + udp(SITE, THEM, b"answer"))
    assert rig.open(await rig.receive()).startswith(udp(SITE, THEM, b"answer"))
    hint = b"\x01\x04\x00\x00" + (1000).to_bytes(2, "little") + b"\x28\x00\x10\x00"
    rig.sites.send(hint + tcp(SITE, THEM, bytes(2000)))
    for _ in range(2):
        segment = rig.open(await rig.receive())[:1060]
        assert checksums_hold(segment)
    assert rig.dropped() == {}


async def test_segments_are_joined_and_datagrams_are_not(rig: Rig) -> None:
    """The stack takes the former only."""
    segments = [tcp(THEM, SITE, bytes(1000), seq=1 + 1000 * n) for n in range(3)]
    sealed = [rig.seal(packet, n) for n, packet in enumerate(segments)]
    rig.send_group(b"".join(sealed), len(sealed[0]))
    if rig.vnet:
        joined = await read(rig.sites)
        assert (joined[1], len(joined)) == (4, 10 + 60 + 3000)
    else:
        assert [await read(rig.sites) for _ in segments] == [PLAIN + one for one in segments]
    datagrams = [udp(THEM, SITE, bytes(1000)) for _ in range(3)]
    sealed = [rig.seal(packet, 3 + n) for n, packet in enumerate(datagrams)]
    rig.send_group(b"".join(sealed), len(sealed[0]))
    for datagram in datagrams:
        assert await read(rig.sites) == PLAIN + datagram


async def test_stacks_come_and_go(rig: Rig) -> None:
    """The descriptor of before is closed; without any the host is asked."""
    first = rig.sites
    rig.serve_sites()
    assert await read(first) == b""
    assert first is not None
    first.close()
    rig.send(udp(THEM, SITE))
    assert await read(rig.sites) == PLAIN + udp(THEM, SITE)
    rig.datapath.set_sites(None)
    assert await read(rig.sites) == b""
    rig.send(udp(THEM, SITE))
    assert await read(rig.host) == front(rig) + udp(THEM, SITE)
    assert rig.dropped() == {}


async def test_a_stack_that_ends_harms_no_other_packet(rig: Rig) -> None:
    """Its packets are counted then; others go on."""
    assert rig.sites is not None
    rig.sites.close()
    rig.send(udp(THEM, SITE))
    rig.send(udp(THEM, ME))
    assert await read(rig.host) == front(rig) + udp(THEM, ME)
    assert rig.dropped() == {"tun_write": 1}


async def test_a_stack_that_does_not_read_loses_packets(rig: Rig) -> None:
    """The queue is bounded, and what does not fit is counted."""
    for _ in range(50):
        for _ in range(20):
            rig.send(udp(THEM, SITE))
        rig.send(udp(THEM, ME))
        assert await read(rig.host) == front(rig) + udp(THEM, ME)
    assert rig.dropped().keys() == {"tun_write"}


async def test_the_stack_speaks_only_to_peers(rig: Rig) -> None:
    """What it says to anybody else is counted, and told to it."""
    assert rig.sites is not None
    rig.sites.send(PLAIN + udp(SITE, "fd7a:115c:a1e0::9"))
    refusal = await read(rig.sites)
    assert refusal[10] >> 4 == 6
    assert refusal[16] == 58  # ICMPv6
    assert rig.dropped() == {"out_no_peer": 1}
