"""A peer that knows us by another address: written into what leaves, and back into what comes."""

from ipaddress import ip_address, ip_network

import pytest
from tests.support.datapath import ME, PEER, THEM, Rig, only
from tests.support.packets import icmp, ip, tcp, udp

from tailnet.agent.datapath import tsmp
from tailnet.agent.datapath.interface import PeerEntry, ToAgent
from tailnet.agent.datapath.reference.split import split
from tailnet.agent.filter.rules import Filter

KNOWN, ME6, KNOWN6, THEM6 = "100.64.0.77", "fd7a::1", "fd7a::77", "fd7a::2"
PAIRS = ((ip_address(ME), ip_address(KNOWN)), (ip_address(ME6), ip_address(KNOWN6)))
FAMILIES = pytest.mark.parametrize(
    ("me", "known", "them"), [(ME, KNOWN, THEM), (ME6, KNOWN6, THEM6)], ids=["IPv4", "IPv6"]
)


def masked(rig: Rig, *, on: bool = True) -> None:
    """Both families; the peer knows us by other addresses."""
    allowed = (ip_network(THEM), ip_network(THEM6))
    rig.datapath.change_peers({PEER: PeerEntry(allowed, PAIRS if on else ())})
    rig.datapath.set_local([ip_network(ME), ip_network(ME6)])


async def reads(rig: Rig) -> bytes:
    """What the peer reads next, without padding."""
    packet = rig.open(await rig.receive())
    size = int.from_bytes(packet[2:4] if packet[0] >> 4 == 4 else packet[4:6], "big")
    return packet[: size + (0 if packet[0] >> 4 == 4 else 40)]


@FAMILIES
async def test_what_leaves_says_that_it_comes_from_there(
    rig: Rig, me: str, known: str, them: str
) -> None:
    """With right checksums: each packet is the one that the other address would have made."""
    await rig.connect()
    masked(rig)
    for make in (udp, tcp, icmp):
        rig.host.send(make(me, them, b"to the peer"))
        assert await reads(rig) == make(known, them, b"to the peer")
    rig.host.send(ip(me, them, 47, b"no checksum"))
    assert await reads(rig) == ip(known, them, 47, b"no checksum")
    assert not rig.dropped()


@FAMILIES
async def test_what_comes_for_it_is_ours(rig: Rig, me: str, known: str, them: str) -> None:
    """The host and the filter never see the other address."""
    await rig.connect()
    masked(rig)
    for make in (udp, tcp, icmp):
        rig.send(make(them, known, b"of the peer"))
        assert await rig.delivered() == make(them, me, b"of the peer")
    rig.send(udp(them, me, b"by our own name"))
    assert await rig.delivered() == udp(them, me, b"by our own name")
    assert not rig.dropped()


async def test_answers_to_it_enter_though_the_filter_is_shut(rig: Rig) -> None:
    """Flows are noted by our own address."""
    await rig.connect()
    masked(rig)
    rig.datapath.set_filter(Filter())
    rig.host.send(udp(ME, THEM, b"question", sport=1000, dport=53))
    assert await reads(rig) == udp(KNOWN, THEM, b"question", sport=1000, dport=53)
    rig.send(udp(THEM, KNOWN, b"answer", sport=53, dport=1000))
    assert await rig.delivered() == udp(THEM, ME, b"answer", sport=53, dport=1000)


async def test_other_sources_leave_as_they_are(rig: Rig) -> None:
    """What we forward is not ours; and what is for neither address does not enter."""
    await rig.connect()
    masked(rig)
    rig.host.send(udp("192.0.2.1", THEM, b"forwarded"))
    assert await reads(rig) == udp("192.0.2.1", THEM, b"forwarded")
    rig.send(udp(THEM, "100.64.0.78"))
    rig.send(udp(THEM, KNOWN, b"the end"))
    assert await rig.delivered() == udp(THEM, ME, b"the end")
    assert rig.dropped() == {"in_not_local": 1}


async def test_a_change_holds_at_once(rig: Rig) -> None:
    """Both ways, while the session stays."""
    await rig.connect()
    masked(rig)
    masked(rig, on=False)
    rig.host.send(udp(ME, THEM))
    assert await reads(rig) == udp(ME, THEM)
    rig.datapath.relay_in([rig.seal(udp(THEM, KNOWN), 0)])
    assert rig.dropped() == {"in_not_local": 1}
    masked(rig)
    rig.datapath.relay_in([rig.seal(udp(THEM, KNOWN), 1)])
    assert await rig.delivered() == udp(THEM, ME)


async def test_what_waited_for_a_session_leaves_by_the_address_of_then(rig: Rig) -> None:
    """The queue keeps what the host sent, so that an error about it can be told."""
    masked(rig)
    rig.host.send(udp(ME, THEM, b"waits"))
    await rig.upcalls()
    rig.datapath.set_session(PEER, rig.session())
    assert await reads(rig) == udp(KNOWN, THEM, b"waits")


async def test_a_datagram_without_a_checksum_keeps_none(rig: Rig) -> None:
    """Zero is no sum to be changed."""
    await rig.connect()
    masked(rig)
    body = bytes.fromhex("03e80035000b0000") + b"abc"
    rig.host.send(ip(ME, THEM, 17, body))
    assert await reads(rig) == ip(KNOWN, THEM, 17, body)
    rig.send(ip(THEM, KNOWN, 17, body))
    assert await rig.delivered() == ip(THEM, ME, 17, body)


async def test_refusals_and_packets_of_the_daemon_have_it_too(rig: Rig) -> None:
    """TSMP, which the peer would not take from an address that it does not know."""
    await rig.connect()
    masked(rig)
    rig.datapath.set_filter(Filter())
    rig.send(tcp(THEM, KNOWN, sport=5000, dport=22, flags=0x02))
    refusal = tsmp.parse_untrusted(await reads(rig))
    assert isinstance(refusal, tsmp.Rejected)
    assert refusal.header.src == ip_address(KNOWN)
    ping = ip(THEM, KNOWN, 99, b"p12345678")
    rig.send(ping)
    (upcall,) = only(ToAgent, await rig.upcalls())
    assert upcall.packet == ip(THEM, ME, 99, b"p12345678")
    rig.datapath.send_plain(PEER, [ip(ME, THEM, 99, b"o12345678")])
    assert await reads(rig) == ip(KNOWN, THEM, 99, b"o12345678")


@FAMILIES
async def test_super_packets_are_cut_and_joined_as_ever(
    vnet_rig: Rig, me: str, known: str, them: str
) -> None:
    """Each segment leaves with the address; a train of them comes in as one packet of ours."""
    rig = vnet_rig
    await rig.connect()
    masked(rig)
    data = bytes(range(250)) * 8
    size, front = 500, 40 if ":" not in me else 60
    kind = 1 if ":" not in me else 4
    hint = bytes([1, kind, front, 0]) + size.to_bytes(2, "little") + bytes([front - 20, 0, 16, 0])
    rig.host.send(hint + tcp(me, them, data))
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    for index, part in enumerate(parts):
        sent = tcp(known, them, part, seq=1 + index * size, ident=7 + index)
        assert await reads(rig) == sent
    train = [
        rig.seal(tcp(them, known, part, seq=1 + index * size), index)
        for index, part in enumerate(parts)
    ]
    rig.datapath.relay_in(train)
    whole = bytearray(await rig.delivered())
    spans = split(whole, len(whole))
    assert [bytes(whole[a:b])[-size:] for a, b in spans] == parts
    assert bytes(whole[10:])[16:20] == ip_address(me).packed or ":" in me
    assert not rig.dropped()
