"""Disco messages about peer relays, types 4 to 9; integers are big-endian.

::

    4 Bind       ┐
    5 Challenge  ├ VNI u32 ‖ generation u32 ‖ the other client's disco key 32 ‖ challenge 32
    6 Answer     ┘
    7 CallMeMaybeVia    relay endpoint
    8 AllocateRequest   disco keys of both clients 64 ‖ generation u32
    9 AllocateResponse  generation u32 ‖ relay endpoint

    relay endpoint   relay's disco key 32 ‖ clients' disco keys 64, sorted ‖ Lamport id u64 ‖
                     VNI u32 ‖ bind lifetime u64 ns ‖ idle lifetime u64 ns ‖ n × address 18, n ≥ 1

Source: tailscale disco/disco.go, net/udprelay/endpoint.
"""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.disco.addresses import ADDRESS_LEN, encode_addresses, parse_addresses
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import KEY_LEN, DiscoPublic

CHALLENGE_LEN = 32
MAX_ADDRESSES = 32  # of a relay, taken from one message
NO_CHALLENGE = bytes(CHALLENGE_LEN)

_BIND = Struct("!II32s32s")
_REQUEST = Struct("!32s32sI")
_ENDPOINT = Struct("!32s32s32sQIQQ")
_GENERATION = Struct("!I")
_NS = 1_000_000_000


class Kind(IntEnum):
    """Message types."""

    BIND = 4
    CHALLENGE = 5
    ANSWER = 6
    CALL_ME_MAYBE_VIA = 7
    ALLOCATE_REQUEST = 8
    ALLOCATE_RESPONSE = 9


class RelayEndpoint(NamedTuple):
    """A session that a relay offers to two nodes.

    Attributes:
        server: disco key of the relay.
        clients: of the two, sorted.
        lamport: orders what one relay allocated for one pair.
        vni: number of the session at the relay.
        bind_lifetime: seconds in which both must have bound.
        idle_lifetime: seconds without traffic until it ends.
        addrs: of the relay, at least one.
    """

    server: DiscoPublic
    clients: tuple[DiscoPublic, DiscoPublic]
    lamport: int
    vni: int
    bind_lifetime: float
    idle_lifetime: float
    addrs: tuple[AddrPort, ...]


class Bind(NamedTuple):
    """One step of binding a client's address to its end of a session.

    Attributes:
        step: ``BIND`` and ``ANSWER`` go to the relay, ``CHALLENGE`` comes from it.
        vni: of the session.
        generation: chosen by the client, not 0.
        remote: the other client.
        challenge: 32 bytes; zero in the first step.
    """

    step: Kind
    vni: int
    generation: int
    remote: DiscoPublic
    challenge: bytes = NO_CHALLENGE


class CallMeMaybeVia(NamedTuple):
    """Meet me at this relay."""

    endpoint: RelayEndpoint


class AllocateRequest(NamedTuple):
    """To a relay: make a session for these two."""

    clients: tuple[DiscoPublic, DiscoPublic]
    generation: int


class AllocateResponse(NamedTuple):
    """From a relay: here it is."""

    generation: int
    endpoint: RelayEndpoint


ViaMessage = Bind | CallMeMaybeVia | AllocateRequest | AllocateResponse


def sorted_pair(a: DiscoPublic, b: DiscoPublic) -> tuple[DiscoPublic, DiscoPublic]:
    """In the order both ends agree on."""
    return (a, b) if a.raw <= b.raw else (b, a)


def encode_via(message: ViaMessage) -> tuple[Kind, bytes]:
    """Type and body."""
    match message:
        case Bind(step, vni, generation, remote, challenge):
            return step, _BIND.pack(vni, generation, remote.raw, challenge)
        case CallMeMaybeVia(endpoint):
            return Kind.CALL_ME_MAYBE_VIA, _encode_endpoint(endpoint)
        case AllocateRequest((a, b), generation):
            return Kind.ALLOCATE_REQUEST, _REQUEST.pack(a.raw, b.raw, generation)
        case AllocateResponse(generation, endpoint):
            body = _GENERATION.pack(generation) + _encode_endpoint(endpoint)
            return Kind.ALLOCATE_RESPONSE, body


def parse_via_untrusted(kind: Kind, body: bytes) -> ViaMessage:
    """A message by its type; bytes after the known fields are ignored.

    Raises:
        BadPacket: too short, or a relay without addresses.
    """
    match kind:
        case Kind.CALL_ME_MAYBE_VIA:
            return CallMeMaybeVia(_parse_endpoint_untrusted(body))
        case Kind.ALLOCATE_REQUEST:
            a, b, generation = _REQUEST.unpack(_head_untrusted(body, _REQUEST.size))
            return AllocateRequest((DiscoPublic(a), DiscoPublic(b)), generation)
        case Kind.ALLOCATE_RESPONSE:
            (generation,) = _GENERATION.unpack(_head_untrusted(body, _GENERATION.size))
            endpoint = _parse_endpoint_untrusted(body[_GENERATION.size :])
            return AllocateResponse(generation, endpoint)
        case _:
            vni, generation, remote, challenge = _BIND.unpack(_head_untrusted(body, _BIND.size))
            return Bind(kind, vni, generation, DiscoPublic(remote), challenge)


def _head_untrusted(body: bytes, size: int) -> bytes:
    if len(body) < size:
        msg = "a disco message about a relay that is too short"
        raise BadPacket(msg)
    return body[:size]


def _encode_endpoint(endpoint: RelayEndpoint) -> bytes:
    a, b = endpoint.clients
    bind, idle = round(endpoint.bind_lifetime * _NS), round(endpoint.idle_lifetime * _NS)
    fixed = (endpoint.server.raw, a.raw, b.raw, endpoint.lamport, endpoint.vni, bind, idle)
    return _ENDPOINT.pack(*fixed) + encode_addresses(endpoint.addrs)


def _parse_endpoint_untrusted(body: bytes) -> RelayEndpoint:
    fields = _ENDPOINT.unpack(_head_untrusted(body, _ENDPOINT.size))
    server, a, b, lamport, vni, bind, idle = fields
    rest = body[_ENDPOINT.size :]
    if not rest or len(rest) % ADDRESS_LEN:
        msg = "a relay without addresses"
        raise BadPacket(msg)
    return RelayEndpoint(
        DiscoPublic(server),
        (DiscoPublic(a), DiscoPublic(b)),
        lamport,
        vni,
        bind / _NS,
        idle / _NS,
        parse_addresses(rest[: MAX_ADDRESSES * ADDRESS_LEN]),
    )


assert _BIND.size == 72
assert _ENDPOINT.size == 124
assert KEY_LEN == 32
