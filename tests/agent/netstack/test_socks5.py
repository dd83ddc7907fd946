"""The SOCKS5 server, byte by byte."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.interface import Associate, Connect, DialError, Failure
from tailnet.agent.netstack.socks5 import (
    Datagram,
    Socks5,
    Target,
    encode_datagram,
    parse_datagram_untrusted,
    parse_target_untrusted,
)

HELLO = b"\x05\x01\x00"
BOUND = AddrPort.parse("100.64.0.1:4000")
V4 = b"\x01\x64\x40\x00\x02\x00\x50"
V6 = b"\x04" + ip_address("fd7a:115c:a1e0::2").packed + b"\x00\x50"
NAME = b"\x03\x02h2\x00\x50"


def sent(machine: Socks5) -> bytes:
    """Everything it wants to send."""
    return b"".join(iter(machine.poll_transmit, None))


@pytest.mark.parametrize(
    ("address", "host"), [(V4, "100.64.0.2"), (V6, "fd7a:115c:a1e0::2"), (NAME, "h2")]
)
def test_connect_names_its_target(address: bytes, host: str) -> None:
    """IPv4, IPv6 and a name; what follows the request is kept for the target."""
    machine = Socks5()
    machine.handle_data(HELLO + b"\x05\x01\x00" + address + b"early")
    assert machine.poll_event() == Connect(host, 80)
    assert machine.poll_event() is None
    assert sent(machine) == b"\x05\x00"
    machine.handle_connected(BOUND)
    assert sent(machine) == b"\x05\x00\x00\x01" + BOUND.ip.packed + b"\x0f\xa0"
    assert (machine.early, machine.closed) == (b"early", False)


@given(st.lists(st.integers(1, 6), max_size=20))
def test_it_does_not_matter_how_bytes_arrive(cuts: list[int]) -> None:
    """Any division into reads gives the same."""
    data = HELLO + b"\x05\x01\x00" + NAME + b"GET /"
    machine = Socks5()
    for cut in cuts:
        piece, data = data[:cut], data[cut:]
        if piece:
            machine.handle_data(piece)
    if data:
        machine.handle_data(data)
    assert machine.poll_event() == Connect("h2", 80)
    assert machine.early == b"GET /"


def test_udp_associate_is_told_where_to_send() -> None:
    """The reply has the bound address."""
    machine = Socks5()
    machine.handle_data(HELLO + b"\x05\x03\x00\x01" + bytes(6))
    assert machine.poll_event() == Associate()


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (Failure.NO_NAME, 4),
        (Failure.REFUSED, 5),
        (Failure.UNREACHABLE, 3),
        (Failure.TIMED_OUT, 6),
        (Failure.BUSY, 1),
    ],
)
def test_each_failure_has_its_reply(failure: Failure, reply: int) -> None:
    """And then the connection is closed."""
    machine = Socks5()
    machine.handle_data(HELLO + b"\x05\x01\x00" + V4)
    assert sent(machine) == b"\x05\x00"
    machine.handle_failed(DialError(failure, "x"))
    assert sent(machine) == bytes((5, reply, 0, 1)) + bytes(6)
    assert machine.closed


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"\x04\x01\x00", b""),  # SOCKS4
        (b"\x05\x01\x02", b"\x05\xff"),  # only passwords
        (HELLO + b"\x05\x02\x00" + V4, b"\x05\x00\x05\x07\x00\x01" + bytes(6)),  # BIND
        (HELLO + b"\x05\x01\x00\x05", b"\x05\x00\x05\x08\x00\x01" + bytes(6)),  # address type 5
        (HELLO + b"\x05\x01\x00\x03\x01 \x00\x50", b"\x05\x00\x05\x01\x00\x01" + bytes(6)),
        (HELLO + b"\x04\x01\x00" + V4, b"\x05\x00"),
    ],
)
def test_garbage_gets_the_protocols_error(request_: bytes, answer: bytes) -> None:
    """Then it is over."""
    machine = Socks5()
    machine.handle_data(request_)
    assert sent(machine) == answer
    assert machine.closed
    assert machine.poll_event() is None


@given(st.binary(max_size=300))
def test_anything_is_survived(data: bytes) -> None:
    """No exception, and at most one event."""
    machine = Socks5()
    machine.handle_data(HELLO + data)
    machine.handle_data(data)
    events = [event for _ in range(3) if (event := machine.poll_event()) is not None]
    assert len(events) <= 1
    assert not (events and machine.closed)


@given(st.sampled_from(["1.2.3.4:5", "[fd00::1]:65535"]), st.binary(max_size=100))
def test_datagrams_come_back_as_they_were(address: str, payload: bytes) -> None:
    """Encoded and parsed."""
    source = AddrPort.parse(address)
    parsed = parse_datagram_untrusted(encode_datagram(source, payload))
    assert parsed == Datagram(Target(str(source.ip), source.port), payload)


@pytest.mark.parametrize("data", [b"", b"\0\0\1" + V4, b"\1\0\0" + V4, b"\0\0\0\1\1", b"\0\0\0\7"])
def test_bad_datagrams_are_refused(data: bytes) -> None:
    """Fragments too."""
    with pytest.raises(BadPacket):
        parse_datagram_untrusted(data)


def test_an_incomplete_target_is_waited_for() -> None:
    """Every prefix of a whole one."""
    for whole in (V4, V6, NAME):
        assert all(parse_target_untrusted(whole[:n]) is None for n in range(len(whole)))
        assert parse_target_untrusted(whole + b"x") == (parse_target_untrusted(whole) or ())
