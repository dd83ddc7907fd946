"""Joined packets, cut again by the kernel's rules, are the packets that came."""

from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import tcp, udp

from tailnet.agent.datapath.reference import vnet
from tailnet.agent.datapath.reference.coalesce import Coalescer
from tailnet.agent.datapath.reference.split import split
from tailnet.agent.filter.parse import parse_untrusted

V4 = ("100.64.0.2", "100.64.0.1")
V6 = ("fd7a:115c:a1e0::2", "fd7a:115c:a1e0::1")
OPTIONS = bytes.fromhex("0101080a0000000100000002")


def join(packets: list[bytes], *, udp_too: bool = True, pad: bool = True) -> list[bytes]:
    """Everything the coalescer writes for packets of one peer, headers included."""
    coalescer = Coalescer(vnet_hdr=True, tcp=True, udp=udp_too)
    owner = object()
    buffer = bytearray()
    spans = []
    for packet in packets:
        start = len(buffer)
        buffer += packet + bytes(-len(packet) % 16 if pad else 0)
        spans.append((packet, start, len(buffer) - start))
    view = memoryview(buffer)
    for packet, start, plain in spans:
        if not coalescer.extend(owner, view, start, plain):
            coalescer.add(owner, parse_untrusted(packet), view, start, plain)
    return [b"".join(buffers) for buffers in coalescer.take()]


def cut(writes: list[bytes]) -> list[bytes]:
    """The packets the kernel's stack sees."""
    out = []
    for write in writes:
        buffer = bytearray(write + bytes(16))
        out += [bytes(buffer[a:b]) for a, b in split(buffer, len(write))]
    return out


def stream(
    pair: tuple[str, str], sizes: list[int], *, seq: int = 0, sport: int = 1000, push: bool = False
) -> list[bytes]:
    """Consecutive segments of one connection."""
    out = []
    for i, size in enumerate(sizes):
        data = bytes((seq + k) % 251 for k in range(size))
        flags = 0x18 if push and i == len(sizes) - 1 else 0x10
        out.append(
            tcp(*pair, data, seq=seq, sport=sport, flags=flags, options=OPTIONS, ident=7 + i)
        )
        seq = (seq + size) % 2**32
    return out


@given(
    st.sampled_from([V4, V6]),
    st.lists(st.sampled_from([1228, 1228, 1228, 600, 1]), max_size=40),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
)
def test_a_tcp_stream_survives_joining_and_cutting(
    pair: tuple[str, str],
    sizes: list[int],
    seq: int,
    push: bool,
    pad: bool,
) -> None:
    """Same bytes of payload, same sequence numbers, right checksums; only IPv4 IDs may differ."""
    packets = stream(pair, sizes, seq=seq, push=push)
    out = cut(join(packets, pad=pad))

    def without_id(packet: bytes) -> bytes:
        return packet[:4] + packet[6:10] + packet[12:] if packet[0] >> 4 == 4 else packet

    assert [without_id(p) for p in out] == [without_id(p) for p in packets]


def test_full_segments_become_one_write() -> None:
    """The point of it all."""
    writes = join(stream(V4, [1228] * 50 + [100], push=True))
    assert len(writes) == 1
    flags, kind, header, size, start, offset = vnet.HEADER.unpack_from(writes[0])
    assert (flags, kind, header, size, start, offset) == (1, vnet.GSO_TCP4, 52, 1228, 20, 16)


def test_a_group_stays_below_64_kib() -> None:
    """IPv4's total length has 16 bits."""
    writes = join(stream(V4, [1228] * 120))
    assert len(writes) == 3
    assert all(len(w) <= vnet.LEN + 65535 for w in writes)


def test_udp_datagrams_join_when_the_device_takes_them() -> None:
    """A shorter one ends the group; without USO nothing is joined."""
    packets = [udp(*V4, bytes([i]) * 1000, ident=7 + i) for i in range(5)]
    packets.append(udp(*V4, b"x" * 10, ident=12))
    assert len(join(packets)) == 1
    assert cut(join(packets)) == packets
    assert len(join(packets, udp_too=False)) == 6


def test_a_damaged_packet_is_left_out_and_the_others_leave_alone() -> None:
    """Nothing is repaired by accident."""
    packets = stream(V4, [1228] * 5)
    packets[2] = packets[2][:-1] + bytes([packets[2][-1] ^ 1])
    assert join(packets) == [vnet.PLAIN + p for p in packets[:2] + packets[3:]]


def test_two_flows_are_joined_side_by_side() -> None:
    """Interleaving costs time but no merging."""
    a, b = stream(V4, [1000] * 4), stream(V4, [1000] * 4, sport=2000)
    mixed = [p for pair in zip(a, b, strict=True) for p in pair]
    assert len(join(mixed)) == 2


def test_what_cannot_be_joined_keeps_its_place_in_the_flow() -> None:
    """A FIN after data stays after it, and data after it does not overtake."""
    data = stream(V4, [1000] * 3)
    fin = tcp(*V4, b"", seq=3000, flags=0x11, options=OPTIONS)
    more = stream(V4, [1000] * 2, seq=3001)
    writes = join([*data, fin, *more])
    assert [vnet.HEADER.unpack_from(w)[1] for w in writes] == [1, 0, 1]
    assert writes[1] == vnet.PLAIN + fin


def test_nothing_overtakes_a_bare_acknowledgement() -> None:
    """Data that would fit the group before it starts a new one."""
    first, second, third = stream(V4, [1000] * 3)
    bare = tcp(*V4, b"", seq=2000, options=OPTIONS)
    writes = join([first, second, bare, third])
    assert writes[1:] == [vnet.PLAIN + bare, vnet.PLAIN + third]


def test_different_ecn_marks_windows_acks_and_fragments_do_not_join() -> None:
    """Whatever the kernel would lose by joining stays apart."""
    one = tcp(*V4, b"a" * 100, seq=0)
    for other in (
        tcp(*V4, b"b" * 100, seq=100, tos=3),
        tcp(*V4, b"b" * 100, seq=100, window=501),
        tcp(*V4, b"b" * 100, seq=100, ack=2),
        tcp(*V4, b"b" * 100, seq=101),
        tcp(*V4, b"b" * 100, seq=100, flags=0x30),
        tcp(*V4, b"b" * 100, seq=100, options=OPTIONS),
    ):
        assert len(join([one, other])) == 2
    fragment = bytearray(tcp(*V4, b"a" * 100, seq=0))
    fragment[6] = 0x20
    assert len(join([bytes(fragment), bytes(fragment)])) == 2


def test_two_peers_never_share_a_group() -> None:
    """A peer must not continue another's flow, whatever it writes into its headers."""
    packets = stream(V4, [1008] * 2)
    buffer = memoryview(b"".join(packets))
    size = len(packets[0])
    coalescer = Coalescer(vnet_hdr=True, tcp=True, udp=True)
    coalescer.add("a", parse_untrusted(packets[0]), buffer, 0, size)
    assert not coalescer.extend("b", buffer, size, size)
    coalescer.add("b", parse_untrusted(packets[1]), buffer, size, size)
    assert len(coalescer.take()) == 2


def test_a_device_without_offload_gets_bare_packets() -> None:
    """No virtio-net header where none was agreed."""
    packet = tcp(*V4, b"abc")
    coalescer = Coalescer(vnet_hdr=False, tcp=False, udp=False)
    view = memoryview(packet)
    for _ in range(2):
        coalescer.add(None, parse_untrusted(packet), view, 0, len(packet))
    assert [b"".join(w) for w in coalescer.take()] == [packet, packet]
