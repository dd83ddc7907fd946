"""Messages about routes: the kernel's bytes, without a kernel."""

import contextlib
from ipaddress import ip_network
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.routemsg import (
    End,
    Found,
    Report,
    decode,
    encode_change,
    encode_dump,
)
from tailnet.platform.linux.rules import Request, Route, Verb

ROUTES = st.builds(
    Route,
    st.one_of(
        st.ip_addresses(v=4).flatmap(
            lambda ip: st.integers(0, 32).map(lambda n: ip_network(f"{ip}/{n}", strict=False))
        ),
        st.ip_addresses(v=6).flatmap(
            lambda ip: st.integers(0, 128).map(lambda n: ip_network(f"{ip}/{n}", strict=False))
        ),
    ),
    st.sampled_from([52, 254, 1000]),
    st.none() | st.integers(1, 2**31 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.just(value=False),
)


@given(ROUTES, st.integers(0, 2**32 - 1))
def test_decode_inverts_encode(route: Route, sequence: int) -> None:
    """What a request asks for is what a dump would say."""
    data = encode_change(Request(Verb.ADD, route), sequence, acknowledge=True)
    assert list(decode(data, route.table)) == [Found(sequence, route)]
    assert list(decode(data, route.table + 1)) == []


def test_bytes_are_those_of_the_ip_command() -> None:
    """``ip route replace 100.64.0.2/32 dev <7> table 52 proto 186``, but for the scope."""
    route = Route(ip_network("100.64.0.2/32"), 52, 7, 0)
    assert encode_change(Request(Verb.ADD, route), 9, acknowledge=True) == (
        pack("=IHHII", 52, 24, 0x505, 9, 0)
        + bytes([2, 32, 0, 0, 52, 186, 0, 1, 0, 0, 0, 0])
        + pack("=HHI", 8, 15, 52)
        + pack("=HH", 8, 1)
        + bytes([100, 64, 0, 2])
        + pack("=HHI", 8, 4, 7)
    )


@pytest.mark.parametrize(
    ("verb", "table", "flags"),
    [(Verb.ADD, 52, 0x501), (Verb.ADD, 254, 0x601), (Verb.DELETE, 52, 1), (Verb.DELETE, 254, 1)],
)
def test_occupied_places_of_the_main_table_are_not_taken(
    verb: Verb, table: int, flags: int
) -> None:
    """Elsewhere a route replaces the one in its place."""
    route = Route(ip_network("::/0"), table, None, 1024)
    data = encode_change(Request(verb, route), 1, acknowledge=False)
    assert int.from_bytes(data[6:8], "little") == flags


@pytest.mark.parametrize(("at", "value"), [(23, 6), (23, 3), (16, 28)])
def test_routes_of_other_kinds_are_passed_over(at: int, value: int) -> None:
    """Blackhole, broadcast, of another family."""
    route = Route(ip_network("10.0.0.0/8"), 52, 7, 0)
    data = bytearray(encode_change(Request(Verb.ADD, route), 1, acknowledge=False))
    data[at] = value
    assert list(decode(bytes(data), 52)) == []


def test_route_without_a_device_is_passed_over() -> None:
    """It leads through a nexthop object."""
    route = Route(ip_network("10.0.0.0/8"), 52, 7, 0)
    data = encode_change(Request(Verb.ADD, route), 1, acknowledge=False)[:-8]
    assert list(decode(pack("=I", len(data)) + data[4:], 52)) == []


def test_reports_and_ends() -> None:
    """Several messages in one datagram."""
    data = pack("=IHHIIi", 20, 2, 0, 5, 0, -17) + pack("=IHHIIi", 20, 2, 0x100, 6, 0, 0)
    data += pack("=IHHIIi", 20, 3, 0x10 | 2, 7, 0, 0)
    assert list(decode(data, 52)) == [Report(5, 17), Report(6, 0), End(7, 0, interrupted=True)]


def test_a_dump_asks_for_one_table() -> None:
    """Which newer kernels heed."""
    assert encode_dump(2, 1000, 3)[-4:] == pack("=I", 1000)


@given(st.binary(max_size=120))
def test_noise_is_refused(data: bytes) -> None:
    """Nothing but ``PlatformError`` leaves the decoder."""
    with contextlib.suppress(PlatformError):
        list(decode(data, 52))


@given(ROUTES, st.integers(0, 200), st.integers(0, 255))
def test_damage_is_refused(route: Route, at: int, value: int) -> None:
    """One byte of a good message is another."""
    data = bytearray(encode_change(Request(Verb.ADD, route), 1, acknowledge=False))
    data[at % len(data)] = value
    with contextlib.suppress(PlatformError):
        list(decode(bytes(data), route.table))
