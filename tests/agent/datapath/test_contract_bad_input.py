"""Bad input, row by row, on every implementation: dropped and counted, and nothing else.

Each test ends with a sound packet that comes through, and with the counters as a whole: what is not
named there was not dropped.  The rows are in ``docs/datapath.md``.
"""

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest
from tests.support.datapath import ME, PEER, THEM, MakeDatapath, Rig, only
from tests.support.packets import icmp, ip, naive_sum, pseudo, tcp, udp

from tailnet.agent.datapath.interface import Handshake, PeerEntry
from tailnet.agent.filter.rules import compile_filter
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.wireguard.constants import REJECT_AFTER_MESSAGES

ME6, THEM6 = "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2"
OUT = udp(ME, THEM, b"out there")
IN = udp(THEM, ME, b"in here")
LAST = REJECT_AFTER_MESSAGES - 1  # the last counter that a session has

TRUNCATED = {
    "one-byte": b"\x45",
    "half-a-header": IN[:19],
    "half-an-ipv6-header": udp(THEM6, ME6)[:39],
}
LENGTHS = {
    "longer-than-what-is-there": IN[:2] + (200).to_bytes(2, "big") + IN[4:],
    "shorter-than-its-header": IN[:2] + (19).to_bytes(2, "big") + IN[4:],
    "nothing": IN[:2] + bytes(2) + IN[4:],
    "ipv6-longer-than-what-is-there": udp(THEM6, ME6)[:4] + b"\xff\xff" + udp(THEM6, ME6)[6:],
}
HEADERS = {
    "too-short": b"\x44" + IN[1:],
    "longer-than-the-packet": b"\x4f" + IN[1:],
    "transport-cut-off": ip(THEM, ME, 17, bytes(7)),
    "tcp-cut-off": ip(THEM, ME, 6, bytes(19)),
    "fragment-over-the-header": ip(THEM, ME, 6, bytes(40), flags=0x2001),
}
VERSIONS = {f"version-{n}": bytes([n << 4 | 5]) + IN[1:] for n in (0, 1, 3, 5, 7, 15)}
MALFORMED = TRUNCATED | LENGTHS | HEADERS | VERSIONS

# From us to them: `turned` makes them the peer's, which changes no sum.
WRONG_SUMS = {
    "ipv4-header": OUT[:8] + b"\x3f" + OUT[9:],
    "ipv4-options": b"\x46\0\0\x29" + OUT[4:20] + bytes(4) + OUT[20:],
    "header-of-a-fragment": ip(ME, THEM, 17, bytes(64), flags=0x2000)[:8] + b"\x3f"
    + ip(ME, THEM, 17, bytes(64), flags=0x2000)[9:],
    "tcp": tcp(ME, THEM, b"data")[:-1] + b"x",
    "tcp-syn": tcp(ME, THEM, flags=2, options=b"\2\4\5\xb4")[:-1] + b"x",
    "tcp-header": tcp(ME, THEM)[:24] + b"\x09" + tcp(ME, THEM)[25:],
    "udp": OUT[:-1] + b"x",
    "udp-length-short": OUT[:24] + b"\0\x07" + OUT[26:],
    "udp-length-beyond": OUT[:24] + b"\0\xff" + OUT[26:],
    "icmp": icmp(ME, THEM, b"ping")[:-1] + b"x",
    "tcp6": tcp(ME6, THEM6, b"data")[:-1] + b"x",
    "udp6": udp(ME6, THEM6, b"data")[:-1] + b"x",
    "icmp6": icmp(ME6, THEM6, b"ping")[:-1] + b"x",
}  # fmt: skip
UNJUDGED = {
    "udp-without": ip(ME, THEM, 17, udp(ME, THEM, b"data")[20:26] + bytes(2) + b"data"),
    "udp6-without": ip(ME6, THEM6, 17, udp(ME6, THEM6, b"data")[40:46] + bytes(2) + b"data"),
    "first-part": ip(ME, THEM, 17, OUT[20:26] + b"\1\2" + bytes(8), flags=0x2000),
    "later-part": ip(ME, THEM, 6, bytes(64), flags=100),
    "first-part-of-ipv6": ip(ME6, THEM6, 44, b"\x06\0\0\1" + bytes(4) + bytes(40)),
    "gre": ip(ME, THEM, 47, b"whatever"),
    "sctp": ip(ME, THEM, 132, bytes(16)),
}


def turned(packet: bytes) -> bytes:
    """With source and destination in each other's place."""
    if packet[0] >> 4 == 4:
        return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
    return packet[:8] + packet[24:40] + packet[8:24] + packet[40:]


def named(rows: dict[str, bytes]) -> pytest.MarkDecorator:
    """A test for each row."""
    return pytest.mark.parametrize("bad", rows.values(), ids=rows.keys())


async def connect_both(rig: Rig) -> None:
    """A session with a peer of both families, of which every protocol may come."""
    await rig.connect()
    rig.datapath.set_peers({PEER: PeerEntry((ip_network(THEM), ip_network(THEM6)))})
    rig.datapath.set_local([ip_network(ME), ip_network(ME6)])
    ports = NetPortRange(ip="*", ports=PortRange(0, 65535))
    every = FilterRule(src_ips=("*",), dst_ports=(ports,), ip_proto=(1, 6, 17, 47, 58, 132))
    rig.datapath.set_filter(compile_filter([every]))


async def passes(rig: Rig) -> None:
    """A sound packet still comes in, and it is the next one that does; another one leaves."""
    head = bytes(10) if rig.vnet else b""
    rig.send(IN)
    assert await rig.delivered() == head + IN
    rig.host.send(head + OUT)
    assert rig.open(await rig.receive()).startswith(OUT)


# --- what a peer sealed --------------------------------------------------------------


@named(MALFORMED)
async def test_a_malformed_packet_of_a_peer_is_dropped(vnet_rig: Rig, bad: bytes) -> None:
    """Truncated, of another version, with lengths beyond the payload."""
    await vnet_rig.connect()
    # Without padding, which would make up for what is missing.
    vnet_rig.send_plain(bad)
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {"in_malformed": 1}


async def test_a_source_that_is_not_the_peers_is_dropped(vnet_rig: Rig) -> None:
    """Ours, another peer's, another family's; also within a group of sound packets."""
    await vnet_rig.connect()
    sound = [tcp(THEM, ME, bytes(100), seq=1 + 100 * n) for n in range(2)]
    forged = [tcp(source, ME, bytes(100), seq=101) for source in (ME, "100.64.0.77")]
    forged.append(tcp(THEM6, ME6, bytes(100)))
    vnet_rig.datapath.relay_in(
        [vnet_rig.seal(p, 1000 + n) for n, p in enumerate([sound[0], *forged, sound[1]])]
    )
    joined = await vnet_rig.delivered()
    assert len(joined) == 10 + 40 + 200
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {"in_source": 3}


@named(WRONG_SUMS)
async def test_a_wrong_checksum_of_a_peer_is_dropped(vnet_rig: Rig, bad: bytes) -> None:
    """Of IPv4's header, TCP, UDP and ICMP; not even an answer tells of it."""
    await connect_both(vnet_rig)
    vnet_rig.send(turned(bad))
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {"in_checksum": 1}


@named(UNJUDGED)
async def test_what_has_no_checksum_of_a_peer_passes(vnet_rig: Rig, bad: bytes) -> None:
    """UDP's that is not there, parts of datagrams, protocols we do not know: not bad at all."""
    await connect_both(vnet_rig)
    packet = turned(bad)
    vnet_rig.send(packet)
    assert await vnet_rig.delivered() == bytes(10) + packet
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {}


@pytest.mark.parametrize("make_packet", [tcp, udp])
async def test_a_wrong_checksum_condemns_no_neighbour(
    vnet_rig: Rig, make_packet: Callable[..., bytes]
) -> None:
    """Of a flow that would be joined all others come in, in order; no sum is mended."""
    rig = vnet_rig
    await rig.connect()
    bodies = [bytes([n]) * 100 for n in range(6)]
    seqs = [{"seq": 1 + 100 * n} if make_packet is tcp else {} for n in range(6)]
    packets = [make_packet(THEM, ME, body, **seq) for body, seq in zip(bodies, seqs, strict=True)]
    header = len(packets[0]) - 100
    for at in (2, 5):
        packets[at] = packets[at][:-1] + b"x"
    rig.datapath.relay_in([rig.seal(p, 1000 + n) for n, p in enumerate(packets)])
    received = b""
    while len(received) < 400:
        received += (await rig.delivered())[10 + header :]
    assert received == b"".join(bodies[n] for n in (0, 1, 3, 4))
    await passes(rig)
    assert rig.dropped() == {"in_checksum": 2}


async def test_a_packet_beyond_the_mtu_comes_in_whole(vnet_rig: Rig) -> None:
    """The peer's MTU is its own affair, as for the kernel's own tunnels."""
    await vnet_rig.connect()
    large = udp(THEM, ME, bytes(20_000))
    vnet_rig.send(large)
    assert await vnet_rig.delivered() == bytes(10) + large
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {}


async def test_an_unaligned_message_is_as_good_as_any(vnet_rig: Rig) -> None:
    """Padding is the sender's choice."""
    await vnet_rig.connect()
    for size in range(1, 17):
        vnet_rig.send_plain(packet := udp(THEM, ME, bytes(size)))
        assert await vnet_rig.delivered() == bytes(10) + packet
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {}


# --- what anybody may send -----------------------------------------------------------


async def test_truncated_and_unknown_datagrams_are_dropped(rig: Rig) -> None:
    """Empty, cut anywhere before the tag, of other types, with bits where none may be."""
    await rig.connect()
    whole = rig.seal(IN, 5)
    cut = [whole[:size] for size in (0, 1, 3, 4, 15, 16, 31)]
    types = [bytes([kind]) + whole[1:] for kind in (0, 5, 255)]
    reserved = [whole[:at] + b"\x01" + whole[at + 1 :] for at in (1, 2, 3)]
    for datagram in (*cut, *types, *reserved):
        rig.remote.sendto(datagram, rig.udp_addr)
    await passes(rig)
    assert rig.dropped() == {"in_unknown": 13}
    assert rig.datapath.take_upcalls(10) == []


async def test_messages_cut_after_the_header_are_forged(rig: Rig) -> None:
    """Whatever is missing, the tag is."""
    await rig.connect()
    whole = rig.seal(bytes(64), 5)
    for size in (32, 33, len(whole) - 1):
        rig.remote.sendto(whole[:size], rig.udp_addr)
    rig.remote.sendto(whole + b"x", rig.udp_addr)
    await passes(rig)
    assert rig.dropped() == {"in_forged": 4}


async def test_the_largest_datagram_is_taken_and_judged(rig: Rig) -> None:
    """65,507 bytes: garbage for a session we have, and for one we do not."""
    await rig.connect()
    for index in (7, 8):
        head = b"\x04\0\0\0" + index.to_bytes(4, "little") + bytes(8)
        rig.remote.sendto(head + bytes(65_507 - len(head)), rig.udp_addr)
    await passes(rig)
    assert rig.dropped() == {"in_forged": 1, "in_no_session": 1}


async def test_old_keys_and_used_up_counters_open_nothing(rig: Rig) -> None:
    """Of a session that was pushed out, and beyond the last message; the last one counts."""
    await rig.connect(7)
    rig.send(IN, LAST)
    assert await rig.delivered() == IN
    for counter in (LAST + 1, (1 << 64) - 1):
        rig.send(IN, counter)
    rig.send(IN, LAST - 1)
    assert await rig.delivered() == IN
    for index in (9, 11):
        await rig.connect(index)
    rig.send(IN, LAST - 2)  # session 7 again
    rig.send(IN, 0, 11)
    assert await rig.delivered() == IN
    assert rig.dropped() == {"in_expired": 2, "in_no_session": 1}


async def test_replays_are_dropped_within_and_beyond_the_window(rig: Rig) -> None:
    """And within one read."""
    await rig.connect()
    rig.send(IN, 10_000)
    assert await rig.delivered() == IN
    for counter in (10_000, 10_000 - 8129, 0):
        rig.send(IN, counter)
    twice = rig.seal(IN, 10_001)
    rig.datapath.relay_in([twice, twice])
    rig.send(IN, 10_001 - 8128)  # the oldest that still may
    assert [await rig.delivered(), await rig.delivered()] == [IN, IN]
    assert rig.dropped() == {"in_replay": 4}


async def test_a_group_of_mixed_messages_is_taken_apart(make: MakeDatapath) -> None:
    """The kernel joins datagrams of one sender by size alone: sound ones and all others."""
    rig = Rig(make, vnet_hdr=True, gro=True)
    try:
        await rig.connect()
        mine = [tcp(THEM, ME, bytes(76), seq=1 + 76 * n) for n in range(2)]
        first, second = (rig.seal_plain(p, 100 + n) for n, p in enumerate(mine))
        size = len(first)
        assert size == 148
        handshake = b"\x01\0\0\0" + bytes(144)
        stranger = b"\x04\0\0\0\x63\0\0\0" + bytes(140)
        forged = rig.seal_plain(mine[0], 102)[:-1] + b"x"
        source = rig.seal_plain(tcp("100.64.0.77", ME, bytes(76)), 103)
        noise = bytes(size)
        parts = [first, handshake, stranger, first, forged, source, noise, second, first[:40]]
        rig.send_group(b"".join(parts), size)
        assert len(await rig.delivered()) == 10 + 40 + 2 * 76
        await passes(rig)
        assert rig.dropped() == {
            "in_no_session": 1,
            "in_replay": 1,
            "in_forged": 2,
            "in_source": 1,
            "in_unknown": 1,
        }
        told = only(Handshake, rig.datapath.take_upcalls(10))
        assert [one.data for one in told] == [handshake]
    finally:
        rig.close()


async def test_a_group_cut_at_the_wrong_size_opens_nothing(make: MakeDatapath) -> None:
    """A message that was sent in pieces is no message."""
    rig = Rig(make, vnet_hdr=True, gro=True)
    try:
        await rig.connect()
        whole = b"".join(rig.seal_plain(tcp(THEM, ME, bytes(76)), 100 + n) for n in range(3))
        rig.send_group(whole, 100)
        await passes(rig)
        # Of 444 bytes, cut every 100: only the first piece begins as a message of ours does.
        assert rig.dropped() == {"in_forged": 1, "in_unknown": 4}
    finally:
        rig.close()


# --- what the host sends -------------------------------------------------------------


@named({name: bad for name, bad in MALFORMED.items() if name != "fragment-over-the-header"})
async def test_a_malformed_packet_of_the_host_is_dropped(vnet_rig: Rig, bad: bytes) -> None:
    """The same rows; a kernel would not, but who writes the device may."""
    await vnet_rig.connect()
    vnet_rig.host.send(bytes(10) + bad)
    await passes(vnet_rig)
    assert sum(vnet_rig.dropped().values()) == 1
    assert set(vnet_rig.dropped()) <= {"out_malformed", "out_filter"}


def hint(flags: int, gso: int, size: int, start: int, offset: int) -> bytes:
    """A virtio-net header."""
    words = b"".join(n.to_bytes(2, "little") for n in (0, size, start, offset))
    return bytes([flags, gso]) + words


BODY = tcp(ME, THEM, bytes(1000))
BODY6 = tcp(ME6, THEM6, bytes(1000))
HINTS = {
    "cut-off": hint(0, 0, 0, 0, 0)[:9],
    "alone": hint(0, 0, 0, 0, 0),
    "no-segment-size": hint(1, 1, 0, 20, 16) + BODY,
    "more-than-2048-segments": hint(1, 1, 1, 20, 16) + tcp(ME, THEM, bytes(3000)),
    "transport-inside-ip": hint(1, 1, 100, 19, 16) + BODY,
    "transport-beyond-the-packet": hint(1, 1, 100, 60_000, 16) + BODY,
    "transport-at-the-end": hint(1, 1, 100, len(BODY) - 5, 16) + BODY,
    "headers-only": hint(1, 1, 100, 20, 16) + tcp(ME, THEM),
    "ipv6-kind-for-ipv4": hint(1, 4, 100, 20, 16) + BODY,
    "udp-kind-of-old": hint(1, 3, 100, 20, 6) + udp(ME, THEM, bytes(1000)),
    "unknown-kind": hint(1, 9, 100, 20, 16) + BODY,
    "checksum-beyond-the-packet": hint(1, 0, 0, 20, 60_000) + BODY,
    "checksum-start-beyond-the-packet": hint(1, 0, 0, 60_000, 16) + BODY,
    "checksum-half-beyond": hint(1, 0, 0, 20, len(BODY) - 21) + BODY,
    "tcp-offset-too-small": hint(1, 1, 100, 20, 16) + BODY[:32] + b"\x40" + BODY[33:],
    "tcp-offset-beyond": hint(1, 1, 2000, 20, 16) + (cut := tcp(ME, THEM, b"12"))[:32] + b"\xf0"
    + cut[33:],
}  # fmt: skip


@named(HINTS)
async def test_a_malformed_virtio_header_is_dropped(vnet_rig: Rig, bad: bytes) -> None:
    """Offsets, sizes and kinds that do not fit the packet."""
    await vnet_rig.connect()
    vnet_rig.host.send(bad)
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {"out_malformed": 1}


@named(WRONG_SUMS)
async def test_a_wrong_checksum_of_the_host_is_dropped(vnet_rig: Rig, bad: bytes) -> None:
    """Where the device says neither that it is to be finished nor that it was found right."""
    rig = vnet_rig
    await connect_both(rig)
    rig.host.send(bytes(10) + bad)
    # Also of a flow that is known by now.
    rig.host.send(bytes(10) + OUT)
    assert rig.open(await rig.receive()).startswith(OUT)
    rig.host.send(bytes(10) + OUT[:-1] + b"x")
    await passes(rig)
    assert rig.dropped() == {"out_checksum": 2}


@named(UNJUDGED)
async def test_what_has_no_checksum_of_the_host_passes(vnet_rig: Rig, bad: bytes) -> None:
    """The same rows as from a peer."""
    await connect_both(vnet_rig)
    vnet_rig.host.send(bytes(10) + bad)
    assert vnet_rig.open(await vnet_rig.receive()).startswith(bad)
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {}


async def test_what_the_kernel_vouches_for_is_not_summed(vnet_rig: Rig) -> None:
    """A sum that it leaves to us, or found right (DATA_VALID); the IP header's still is."""
    rig = vnet_rig
    await rig.connect()
    damaged = OUT[:-1] + b"x"
    rig.host.send(hint(2, 0, 0, 0, 0) + damaged)
    assert rig.open(await rig.receive()).startswith(damaged)
    begun = (naive_sum(pseudo(ip_address(ME), ip_address(THEM), 17, 17)) & 0xFFFF).to_bytes(
        2, "big"
    )
    rig.host.send(hint(1, 0, 0, 20, 6) + OUT[:26] + begun + OUT[28:])
    assert rig.open(await rig.receive()).startswith(OUT)
    header = OUT[:8] + b"\x01" + OUT[9:]
    for flags, kind in ((1, 0), (2, 0), (1, 1)):
        rig.host.send(hint(flags, kind, 100, 20, 6) + header)
    await passes(rig)
    assert rig.dropped() == {"out_checksum": 3}


async def test_a_packet_too_large_for_udp_is_counted(vnet_rig: Rig) -> None:
    """65,535 bytes of IP do not fit a datagram with a header and a tag."""
    await vnet_rig.connect()
    vnet_rig.host.send(bytes(10) + udp(ME, THEM, bytes(65_507)))
    await passes(vnet_rig)
    assert vnet_rig.dropped() == {"out_send": 1}
