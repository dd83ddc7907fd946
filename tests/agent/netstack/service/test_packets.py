"""Answers without a stack."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import checksums_hold, ip, naive_checksum, pseudo, tcp, udp

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.service.packets import Datagram, datagram, take_untrusted

PLAIN = bytes(10)
ENDS = pytest.mark.parametrize(
    ("me", "service"),
    [("100.64.0.1", "100.100.100.100"), ("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::53")],
)


@ENDS
def test_a_datagram_is_taken_and_its_answer_made(me: str, service: str) -> None:
    """The answer is what the other side would have made."""
    taken = take_untrusted(PLAIN + udp(me, service, b"who?"))
    local, remote = AddrPort.of(service, 53), AddrPort.of(me, 1000)
    assert taken == Datagram(local, remote, b"who?")
    for payload in (b"", b"x", b"you" * 100):
        made = datagram(local, remote, payload)
        assert made[:10] == PLAIN
        assert checksums_hold(made[10:])
        assert take_untrusted(made) == Datagram(remote, local, payload)


@ENDS
def test_a_ping_is_answered(me: str, service: str) -> None:
    """With its own bytes and a right checksum."""
    proto, ask, say = (58, 128, 129) if ":" in me else (1, 8, 0)
    answer = take_untrusted(PLAIN + ip(me, service, proto, bytes((ask, 0, 0, 0)) + b"\1\2\3\4rest"))
    assert isinstance(answer, bytes)
    body = answer[10 + (40 if ":" in me else 20) :]
    assert (body[0], body[4:]) == (say, b"\1\2\3\4rest")
    a, b = ip_address(service), ip_address(me)
    front = pseudo(a, b, proto, len(body)) if ":" in me else b""
    assert naive_checksum(front + body) == 0


@ENDS
def test_tcp_is_refused(me: str, service: str) -> None:
    """A SYN gets a reset that acknowledges it, data one at its place, a reset nothing."""
    front = 10 + (40 if ":" in me else 20)
    for flags, wanted in ((2, (0, 8, 0x14)), (0x10, (1, 0, 4))):
        said = take_untrusted(PLAIN + tcp(me, service, seq=7, flags=flags, dport=53))
        assert isinstance(said, bytes)
        assert checksums_hold(said[10:])
        sport, dport, seq, ack, _, got = struct.unpack_from(">HHIIBB", said, front)
        assert (sport, dport, (seq, ack, got)) == (53, 1000, wanted)
    assert take_untrusted(PLAIN + tcp(me, service, flags=4)) is None


@given(st.binary(max_size=200))
def test_noise_raises_nothing_else(data: bytes) -> None:
    """Behind the first byte of IPv4 and of IPv6 too."""
    for front in (b"", PLAIN, PLAIN + b"\x45\0\0\x20", PLAIN + b"\x60\0\0\0\0\x10"):
        try:
            take_untrusted(front + data)
        except BadPacket:
            continue
