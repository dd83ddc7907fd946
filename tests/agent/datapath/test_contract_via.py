"""Through a peer relay: a Geneve header before each datagram, on both ways."""

import socket

import pytest
from tests.support.datapath import ME, PEER, THEM, MakeDatapath, Rig, only
from tests.support.packets import tcp, udp

from tailnet.agent.addr import ViaAddr
from tailnet.agent.datapath.interface import (
    Disco,
    Handshake,
    NewSource,
    Path,
    RelayOut,
)

OUT = udp(ME, THEM, b"out there")
IN = udp(THEM, ME, b"in here")
VNI = 0x010203
HEAD = bytes.fromhex("00007a1201020300")
DISCO_HEAD = bytes.fromhex("00007a1101020300")


def use(rig: Rig, *, relay: bool = False) -> ViaAddr:
    """The remote is a relay now."""
    via = ViaAddr(rig.remote_addr, VNI)
    rig.datapath.set_path(PEER, Path(via, relay=relay))
    return via


async def test_what_leaves_carries_the_header_and_what_enters_loses_it(rig: Rig) -> None:
    """The sealed message behind it is as ever."""
    await rig.connect()
    use(rig)
    rig.host.send(OUT)
    datagram = await rig.receive()
    assert datagram[:8] == HEAD
    assert rig.open(datagram[8:]).startswith(OUT)
    rig.remote.sendto(HEAD + rig.seal(IN, 0), rig.udp_addr)
    assert await rig.delivered() == IN
    assert not rig.dropped()
    assert rig.datapath.take_upcalls(10) == []


async def test_a_direct_packet_is_a_new_source_while_a_relay_is_used(rig: Rig) -> None:
    """Even from the relay's own address."""
    await rig.connect()
    use(rig)
    rig.send(IN)
    assert await rig.delivered() == IN
    assert await rig.upcalls() == [NewSource(PEER, rig.remote_addr)]


async def test_a_packet_through_a_relay_is_no_new_source(rig: Rig) -> None:
    """Only disco says that such a way is good."""
    await rig.connect()
    rig.datapath.set_path(PEER, Path(None, relay=True))
    rig.remote.sendto(HEAD + rig.seal(IN, 0), rig.udp_addr)
    assert await rig.delivered() == IN
    assert rig.datapath.take_upcalls(10) == []


async def test_a_super_packet_leaves_in_segments_with_a_header_each(vnet_rig: Rig) -> None:
    """Segmentation offload cuts behind the headers; what comes back in one group joins again."""
    rig = vnet_rig
    await rig.connect()
    use(rig)
    hint = b"\x01\x01\x00\x00" + (1000).to_bytes(2, "little") + b"\x14\x00\x10\x00"
    rig.host.send(hint + tcp(ME, THEM, bytes(9500)))
    got = [await rig.receive() for _ in range(10)]
    assert {d[:8] for d in got} == {HEAD}
    assert [len(rig.open(d[8:])) for d in got] == [1040] * 9 + [544]


async def test_groups_that_the_kernel_joined_are_taken_apart(make: MakeDatapath) -> None:
    """Receive offload joins datagrams of one relay, whatever their session."""
    rig = Rig(make, vnet_hdr=True, gro=True)
    try:
        await rig.connect()
        group = b"".join(
            head + rig.seal(tcp(THEM, ME, bytes(984), seq=1 + 984 * i), i)
            for i, head in enumerate([HEAD, HEAD, bytes.fromhex("00007a1200000900")])
        )
        size = len(group) // 3
        segment = [(socket.IPPROTO_UDP, 103, size.to_bytes(2, "little"))]
        rig.remote.sendmsg([group], segment, 0, rig.udp_addr)
        data = b""
        while len(data) < 3 * 984:
            data += (await rig.delivered())[50:]
        assert not rig.dropped()
        assert rig.datapath.activity(PEER).rx_packets == 3
    finally:
        rig.close()


async def test_to_the_derp_relay_goes_no_header(rig: Rig) -> None:
    """While both ways are used."""
    await rig.connect()
    use(rig, relay=True)
    rig.host.send(OUT)
    datagram = await rig.receive()
    (up,) = only(RelayOut, await rig.upcalls())
    assert up.datagrams == [datagram[8:]]


async def test_what_came_through_derp_has_no_header_to_lose(rig: Rig) -> None:
    """A relay inside a relay is nothing we know."""
    await rig.connect()
    rig.datapath.relay_in([HEAD + rig.seal(IN, 0)])
    assert rig.dropped() == {"in_unknown": 1}


@pytest.mark.parametrize("control", [0, 0x80])
async def test_disco_and_handshakes_go_up_with_the_session_they_came_through(
    rig: Rig, control: int
) -> None:
    """The relay's own disco has the control bit."""
    via = ViaAddr(rig.remote_addr, VNI)
    disco = b"TS\xf0\x9f\x92\xac" + bytes(60)
    head = bytearray(DISCO_HEAD)
    head[1] = control
    rig.remote.sendto(bytes(head) + disco, rig.udp_addr)
    assert await rig.upcalls() == [Disco(via, disco)]
    hello = b"\x01\0\0\0" + bytes(144)
    rig.remote.sendto(HEAD + hello, rig.udp_addr)
    assert await rig.upcalls() == [Handshake(via, hello)]


async def test_a_protocol_that_does_not_match_what_is_inside_is_dropped(rig: Rig) -> None:
    """And so are sessions nobody has, session 0, options, and reserved bits."""
    await rig.connect()
    disco, hello = b"TS\xf0\x9f\x92\xac" + bytes(60), b"\x01\0\0\0" + bytes(144)
    sealed = rig.seal(IN, 0)
    bad = [HEAD + disco, DISCO_HEAD + hello, DISCO_HEAD + sealed, HEAD[:6] + b"\0\1" + sealed]
    bad += [HEAD[:4] + bytes(4) + sealed, b"\1" + HEAD[1:] + sealed, b"\0\x80" + HEAD[2:] + sealed]
    for datagram in (*bad, HEAD + rig.seal(IN, 0, index=50)):
        rig.remote.sendto(datagram, rig.udp_addr)
    rig.send(IN, 5)
    assert await rig.delivered() == IN
    assert rig.dropped() == {"in_unknown": len(bad), "in_no_session": 1}
