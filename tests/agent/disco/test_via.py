"""Messages about peer relays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.disco.messages import encode, parse_untrusted
from tailnet.agent.disco.via import (
    AllocateRequest,
    AllocateResponse,
    Bind,
    CallMeMaybeVia,
    Kind,
    RelayEndpoint,
    ViaMessage,
    sorted_pair,
)
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPublic

KEYS = st.binary(min_size=32, max_size=32).map(DiscoPublic)
U32 = st.integers(0, 2**32 - 1)
SECONDS = st.integers(0, 10**9).map(float)
ADDRESSES = st.builds(
    AddrPort, st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65535)
).filter(lambda a: a.ip.version == 4 or a.ip.ipv4_mapped is None)
ENDPOINTS = st.builds(
    RelayEndpoint,
    KEYS,
    st.tuples(KEYS, KEYS),
    st.integers(0, 2**64 - 1),
    U32,
    SECONDS,
    SECONDS,
    st.lists(ADDRESSES, min_size=1, max_size=4).map(tuple),
)
STEPS = st.sampled_from([Kind.BIND, Kind.CHALLENGE, Kind.ANSWER])
MESSAGES = st.one_of(
    st.builds(Bind, STEPS, U32, U32, KEYS, st.binary(min_size=32, max_size=32)),
    st.builds(CallMeMaybeVia, ENDPOINTS),
    st.builds(AllocateRequest, st.tuples(KEYS, KEYS), U32),
    st.builds(AllocateResponse, U32, ENDPOINTS),
)
A, B = DiscoPublic(bytes(32)), DiscoPublic(b"\1" * 32)
ENDPOINT = RelayEndpoint(B, (A, B), 7, 0x010203, 30.0, 300.0, (AddrPort.parse("1.2.3.4:5"),))


@given(MESSAGES)
def test_every_message_comes_back(message: ViaMessage) -> None:
    """Through the wire form."""
    assert parse_untrusted(encode(message)) == message


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (Bind(Kind.BIND, 1, 2, A), 72),
        (AllocateRequest((A, B), 3), 68),
        (CallMeMaybeVia(ENDPOINT), 142),
        (AllocateResponse(3, ENDPOINT), 146),
    ],
)
def test_bodies_have_the_length_that_other_clients_expect(message: ViaMessage, size: int) -> None:
    """Type and version before them; numbers big-endian."""
    wire = encode(message)
    assert len(wire) == 2 + size
    assert wire[1] == 0


def test_lifetimes_are_nanoseconds_on_the_wire() -> None:
    """And seconds here."""
    wire = encode(CallMeMaybeVia(ENDPOINT))
    assert (30 * 10**9).to_bytes(8) + (300 * 10**9).to_bytes(8) in wire


@given(MESSAGES, st.integers(0, 200))
def test_a_cut_message_is_bad_or_still_whole(message: ViaMessage, cut: int) -> None:
    """A list of addresses may be shorter, and nothing else."""
    wire = encode(message)[: 2 + cut]
    try:
        parsed = parse_untrusted(wire)
    except BadPacket:
        return
    assert type(parsed) is type(message)


def test_a_relay_without_whole_addresses_is_bad() -> None:
    """There would be nothing to send to."""
    for cut in (1, 17, 18):
        with pytest.raises(BadPacket):
            parse_untrusted(encode(CallMeMaybeVia(ENDPOINT))[:-cut])


def test_pairs_have_one_order() -> None:
    """Both ends must name the same session."""
    assert sorted_pair(B, A) == sorted_pair(A, B) == (A, B)
