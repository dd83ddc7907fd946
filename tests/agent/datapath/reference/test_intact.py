"""Checksums: every flipped bit is found, and what has none is let through."""

from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import icmp, ip, naive_sum, tcp, udp

from tailnet.agent.datapath.reference.intact import is_intact
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.parse import parse_untrusted

V4, V6 = ("100.64.0.1", "100.64.0.2"), ("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2")

packets = st.builds(
    lambda make, ends, payload: make(*ends, payload),
    st.sampled_from([tcp, udp, icmp]),
    st.sampled_from([V4, V6]),
    st.binary(max_size=1300),
)


def judged(packet: bytes) -> bool:
    """As the datapath does."""
    return is_intact(packet, parse_untrusted(packet))


@given(packet=packets, data=st.data())
def test_every_flipped_bit_is_found(packet: bytes, data: st.DataObject) -> None:
    """But in version and lengths, which say what is summed, and in what IPv6 leaves unprotected."""
    assert judged(packet)
    first = 4 if packet[0] >> 4 == 4 else 8
    at, bit = data.draw(st.integers(first, len(packet) - 1)), data.draw(st.integers(0, 7))
    bad = packet[:at] + bytes([packet[at] ^ 1 << bit]) + packet[at + 1 :]
    try:
        parsed = parse_untrusted(bad)
    except BadPacket:
        return
    unsummed = (packet[0] >> 4 == 6 and bad[46:48] == bytes(2)) or bad[26:28] == bytes(2)
    assert not is_intact(bad, parsed) or (parsed.proto == 17 and unsummed)


@given(st.binary(max_size=200))
def test_any_ip_packet_can_be_judged(body: bytes) -> None:
    """Whatever it carries."""
    for proto in (1, 6, 17, 44, 58, 132):
        for ends in (V4, V6):
            assert judged(ip(*ends, proto, body)) in (True, False)


def test_nothing_but_zeros_is_no_right_sum() -> None:
    """Of ICMP, which has no pseudo header: an echo reply of zeros has the checksum 0xFFFF."""
    assert not judged(ip(*V4, 1, bytes(8)))
    assert naive_sum(icmp(*V4, bytes(4), kind=0)[20:]) == 0xFFFF
    assert judged(icmp(*V4, bytes(4), kind=0))
