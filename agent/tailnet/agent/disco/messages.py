"""Disco messages, inside their envelope.

::

    type u8 ‖ version u8 (0) ‖ body, integers big-endian

    1 Ping         txid 12 [‖ sender's node key 32] [‖ zero padding]
    2 Pong         txid 12 ‖ address 18: where the ping seemed to come from
    3 CallMeMaybe  n × address 18

    address        IPv6 16 (IPv4 is mapped: ::ffff:a.b.c.d) ‖ port u16

Parsers are lax on purpose, so that newer nodes may say more: trailing bytes are ignored, Ping and
Pong ignore the version, and a CallMeMaybe that makes no sense lists no addresses.  Types 4 to 9 are
about peer relays; see ``via``.

Source: tailscale disco/disco.go.
"""

from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.disco.addresses import (
    ADDRESS_LEN,
    encode_address,
    encode_addresses,
    parse_address,
    parse_addresses,
)
from tailnet.agent.disco.via import (
    AllocateRequest,
    AllocateResponse,
    Bind,
    CallMeMaybeVia,
    Kind,
    encode_via,
    parse_via_untrusted,
)
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import KEY_LEN, NodePublic

TXID_LEN = 12  # bytes
PING_LEN = 2 + TXID_LEN + KEY_LEN  # bytes of a Ping with node key and without padding

_PING, _PONG, _CALL_ME_MAYBE = 1, 2, 3
_VIA = frozenset(Kind)


class Ping(NamedTuple):
    """Are you there?  ``node_key`` is a hint that the receiver must check.

    ``padding``: zero bytes at the end, to try a packet size.
    """

    txid: bytes
    node_key: NodePublic | None
    padding: int = 0


class Pong(NamedTuple):
    """Answer to a Ping; ``src`` is where the Ping appeared to come from."""

    txid: bytes
    src: AddrPort


class CallMeMaybe(NamedTuple):
    """The sender has just pinged us and asks for pings to these addresses of its own."""

    endpoints: tuple[AddrPort, ...]


Message = Ping | Pong | CallMeMaybe | Bind | CallMeMaybeVia | AllocateRequest | AllocateResponse


def encode(message: Message) -> bytes:
    """Plaintext of a message, for the envelope."""
    match message:
        case Ping(txid, node_key, padding):
            key = b"" if node_key is None else node_key.raw
            return bytes((_PING, 0)) + txid + key + bytes(padding)
        case Pong(txid, src):
            return bytes((_PONG, 0)) + txid + encode_address(src)
        case CallMeMaybe(endpoints):
            return bytes((_CALL_ME_MAYBE, 0)) + encode_addresses(endpoints)
        case Bind() | CallMeMaybeVia() | AllocateRequest() | AllocateResponse():
            kind, body = encode_via(message)
            return bytes((kind, 0)) + body


def parse_untrusted(plaintext: bytes) -> Message | None:
    """A message, or ``None`` for a type we do not know.

    Raises:
        BadPacket: shorter than its type requires.
    """
    if len(plaintext) < 2:
        msg = "disco message without a header"
        raise BadPacket(msg)
    kind, version, body = plaintext[0], plaintext[1], plaintext[2:]
    if kind == _PING:
        return _parse_ping(body)
    if kind == _PONG:
        if len(body) < TXID_LEN + ADDRESS_LEN:
            msg = "disco pong is too short"
            raise BadPacket(msg)
        return Pong(body[:TXID_LEN], parse_address(body[TXID_LEN : TXID_LEN + ADDRESS_LEN]))
    if kind == _CALL_ME_MAYBE:
        if version != 0 or len(body) % ADDRESS_LEN:
            return CallMeMaybe(())
        return CallMeMaybe(parse_addresses(body))
    return parse_via_untrusted(Kind(kind), body) if kind in _VIA else None


def _parse_ping(body: bytes) -> Ping:
    if len(body) < TXID_LEN:
        msg = "disco ping is too short"
        raise BadPacket(msg)
    txid, rest = body[:TXID_LEN], body[TXID_LEN:]
    if len(rest) < KEY_LEN:
        return Ping(txid, None, len(rest))
    key = NodePublic(rest[:KEY_LEN])
    return Ping(txid, None if key.is_zero else key, len(rest) - KEY_LEN)
