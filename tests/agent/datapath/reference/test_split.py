"""Super-packets become packets that any host accepts."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import checksums_hold, naive_sum, pseudo, tcp, udp

from tailnet.agent.datapath.reference import vnet
from tailnet.agent.datapath.reference.split import split
from tailnet.agent.errors import BadPacket

PAIRS = {4: ("100.64.0.1", "100.64.0.2"), 6: ("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2")}
OPTIONS = bytes.fromhex("0101080a0000000100000002")


def read_of(packet: bytes, kind: int, gso_size: int, offset: int) -> tuple[bytearray, int]:
    """What the kernel hands over for a super-packet: the checksum is only begun."""
    version = packet[0] >> 4
    start = 20 if version == 4 else 40
    a = ip_address(packet[12:16] if version == 4 else packet[8:24])
    b = ip_address(packet[16:20] if version == 4 else packet[24:40])
    proto = packet[9] if version == 4 else packet[6]
    begun = naive_sum(pseudo(a, b, proto, len(packet) - start))
    packet = packet[: start + offset] + struct.pack(">H", begun) + packet[start + offset + 2 :]
    header = vnet.HEADER.pack(vnet.NEEDS_CSUM, kind, 0, gso_size, start, offset)
    buffer = bytearray(header + packet + bytes(64))
    return buffer, len(header) + len(packet)


def pieces(buffer: bytearray, size: int) -> list[bytes]:
    """All segments, each copied while it is valid."""
    return [bytes(buffer[start:end]) for start, end in split(buffer, size)]


shapes = st.tuples(st.integers(1, 1400), st.integers(0, 12), st.integers(1, 1400)).map(
    lambda t: (t[0], t[0] * t[1] + min(t[2], t[0]))
)
"""Segment size, and bytes of payload: some full segments and one that may be shorter."""


@given(
    st.sampled_from([4, 6]),
    shapes,
    st.sampled_from([b"", OPTIONS]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0x10, 0x18, 0x19, 0x98]),
)
def test_tcp_segments_carry_the_stream_with_right_checksums(
    version: int, shape: tuple[int, int], options: bytes, seq: int, flags: int
) -> None:
    """Each is what the sender would have sent: sequence, flags, identification, checksums."""
    mss, size = shape
    data = bytes(i * i % 251 for i in range(size))
    src, dst = PAIRS[version]
    whole = tcp(src, dst, data, seq=seq, flags=flags, options=options, ident=65535)
    kind = vnet.GSO_TCP4 if version == 4 else vnet.GSO_TCP6
    out = pieces(*read_of(whole, kind | vnet.GSO_ECN, mss, vnet.TCP_CSUM))
    count = -(-len(data) // mss)
    assert len(out) == count
    for i, packet in enumerate(out):
        part = data[i * mss : (i + 1) * mss]
        flag = flags
        if i < count - 1:
            flag &= ~0x09
        if i:
            flag &= ~0x80
        here = (seq + i * mss) % 2**32
        ident = (65535 + i) % 65536
        assert packet == tcp(src, dst, part, seq=here, flags=flag, options=options, ident=ident)


@given(st.sampled_from([4, 6]), shapes)
def test_udp_segments_carry_the_datagrams(version: int, shape: tuple[int, int]) -> None:
    """Every datagram as the application wrote it."""
    size, total = shape
    data = bytes(i * i % 251 for i in range(total))
    src, dst = PAIRS[version]
    whole = udp(src, dst, data)
    out = pieces(*read_of(whole, vnet.GSO_UDP, size, vnet.UDP_CSUM))
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    assert out == [udp(src, dst, part, ident=7 + i) for i, part in enumerate(parts)]


@given(st.sampled_from([4, 6]), st.binary(max_size=1500), st.booleans())
def test_a_single_packet_gets_its_checksum_finished(
    version: int, data: bytes, is_tcp: bool
) -> None:
    """NEEDS_CSUM without segmentation."""
    src, dst = PAIRS[version]
    packet = tcp(src, dst, data) if is_tcp else udp(src, dst, data)
    offset = vnet.TCP_CSUM if is_tcp else vnet.UDP_CSUM
    assert pieces(*read_of(packet, vnet.GSO_NONE, 0, offset)) == [packet]
    assert checksums_hold(packet)


@given(st.binary(max_size=200))
def test_garbage_raises_badpacket_or_stays_inside(data: bytes) -> None:
    """No other exception, and no span outside of the read."""
    buffer = bytearray(data + bytes(16))
    try:
        for start, end in split(buffer, len(data)):
            assert 0 <= start <= end <= len(data)
    except BadPacket:
        pass


@pytest.mark.parametrize("mss", [0, 1])
def test_no_segment_size_and_too_many_segments_are_refused(mss: int) -> None:
    """The kernel makes neither."""
    whole = tcp(*PAIRS[4], bytes(4000))
    with pytest.raises(BadPacket):
        pieces(*read_of(whole, vnet.GSO_TCP4, mss, vnet.TCP_CSUM))
