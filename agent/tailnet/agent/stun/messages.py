"""STUN binding requests and responses, as far as DERP's STUN servers speak them.

::

    header (20)  type u16 ‖ length u16 ‖ cookie 2112a442 ‖ txid 12
    attribute    type u16 ‖ length u16 ‖ value ‖ padding to 4

    request (40) 0001 ‖ 0014 ‖ cookie ‖ txid ‖ 8022 0008 "tailnode" ‖ 8028 0004 fingerprint
    response     0101 ‖ length ‖ cookie ‖ txid ‖ 0020 length 00 family port^2112 ip^(cookie ‖ txid)

The servers answer nothing but a request with exactly that SOFTWARE and a valid FINGERPRINT as its
last attribute.

Source: RFC 8489 sections 5, 14.1, 14.2, 14.7, 14.14; tailscale net/stun/stun.go.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from zlib import crc32

from tailnet.agent.addr import AddrPort, unmap
from tailnet.agent.errors import BadPacket

TXID_LEN = 12  # bytes
HEADER_LEN = 20  # bytes
COOKIE = b"\x21\x12\xa4\x42"
SOFTWARE = b"tailnode"

_BINDING_REQUEST = 0x0001
_BINDING_SUCCESS = 0x0101
_MAPPED_ADDRESS = 0x0001
_XOR_MAPPED_ADDRESS = 0x0020
_XOR_MAPPED_ADDRESS_ALT = 0x8020  # written by servers that follow a draft of RFC 5389
_SOFTWARE = 0x8022
_FINGERPRINT = 0x8028
_FINGERPRINT_XOR = 0x5354554E
_FAMILIES = {1: 4, 2: 16}  # family → bytes of address

_HEADER = struct.Struct("!HH4s12s")
_ATTRIBUTE = struct.Struct("!HH")
_MAPPED = struct.Struct("!xBH")


def looks_like_stun(data: bytes) -> bool:
    """True for a STUN binding message; WireGuard and disco never look so."""
    return (
        len(data) >= HEADER_LEN and data[0] & 0xC0 == 0 and data[1] == 0x01 and data[4:8] == COOKIE
    )


def encode_request(txid: bytes) -> bytes:
    """A binding request of 40 bytes; ``txid`` is 12 random bytes."""
    body = _ATTRIBUTE.pack(_SOFTWARE, len(SOFTWARE)) + SOFTWARE
    message = _HEADER.pack(_BINDING_REQUEST, len(body) + 8, COOKIE, txid) + body
    return message + _ATTRIBUTE.pack(_FINGERPRINT, 4) + _fingerprint(message)


def parse_request_untrusted(data: bytes) -> bytes:
    """Transaction id (12 bytes) of a binding request with our SOFTWARE and a good FINGERPRINT.

    Raises:
        BadPacket: anything else.
    """
    kind, txid = _parse_header(data)
    if kind != _BINDING_REQUEST:
        msg = "not a STUN binding request"
        raise BadPacket(msg)
    attributes = list(_attributes(data))
    if not any(t == _SOFTWARE and value == SOFTWARE for t, _, value in attributes):
        msg = "STUN request without our SOFTWARE"
        raise BadPacket(msg)
    last, at, value = attributes[-1]
    if last != _FINGERPRINT or value != _fingerprint(data[:at]):
        msg = "STUN request without a valid FINGERPRINT"
        raise BadPacket(msg)
    return txid


def encode_response(txid: bytes, mapped: AddrPort) -> bytes:
    """A binding response of 32 or 44 bytes: ``mapped`` is where the request came from."""
    address = unmap(mapped.ip).packed
    family = 1 if len(address) == 4 else 2
    value = _MAPPED.pack(family, mapped.port ^ 0x2112) + _xor(address, COOKIE + txid)
    body = _ATTRIBUTE.pack(_XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEADER.pack(_BINDING_SUCCESS, len(body), COOKIE, txid) + body


def parse_response_untrusted(data: bytes) -> tuple[bytes, AddrPort]:
    """Transaction id and mapped address of a binding success response.

    XOR-MAPPED-ADDRESS wins, under its own or the draft's number; MAPPED-ADDRESS is the last
    resort.  Unknown attributes are skipped.

    Raises:
        BadPacket: anything else.
    """
    kind, txid = _parse_header(data)
    if kind != _BINDING_SUCCESS:
        msg = "not a STUN binding response"
        raise BadPacket(msg)
    fallback: AddrPort | None = None
    for attribute, _, value in _attributes(data):
        if attribute in {_XOR_MAPPED_ADDRESS, _XOR_MAPPED_ADDRESS_ALT}:
            return txid, _parse_address(value, COOKIE + txid)
        if attribute == _MAPPED_ADDRESS and fallback is None:
            fallback = _parse_address(value, bytes(16))
    if fallback is None:
        msg = "STUN response without an address"
        raise BadPacket(msg)
    return txid, fallback


def _fingerprint(message: bytes) -> bytes:
    return (crc32(message) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def _xor(address: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(address, mask, strict=False))


def _parse_header(data: bytes) -> tuple[int, bytes]:
    if not looks_like_stun(data):
        msg = "not a STUN binding message"
        raise BadPacket(msg)
    kind, length, _, txid = _HEADER.unpack_from(data)
    if HEADER_LEN + length > len(data):
        msg = "STUN message is cut short"
        raise BadPacket(msg)
    return kind, txid


def _attributes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, offset and value of each attribute of a message whose header is good."""
    end = HEADER_LEN + int.from_bytes(data[2:4], "big")
    at = HEADER_LEN
    while at < end:
        if at + 4 > end:
            msg = "STUN attribute is cut short"
            raise BadPacket(msg)
        kind, length = _ATTRIBUTE.unpack_from(data, at)
        if at + 4 + length > end:
            msg = "STUN attribute is cut short"
            raise BadPacket(msg)
        yield kind, at, data[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)


def _parse_address(value: bytes, mask: bytes) -> AddrPort:
    """``00 ‖ family ‖ port ‖ address``, masked; bytes after the address are ignored."""
    if len(value) < 4 or len(value) < 4 + _FAMILIES.get(value[1], 0xFFFF):
        msg = "bad address in a STUN response"
        raise BadPacket(msg)
    size = _FAMILIES[value[1]]
    port = int.from_bytes(_xor(value[2:4], mask), "big")
    raw = _xor(value[4 : 4 + size], mask)
    return AddrPort(unmap(IPv4Address(raw) if size == 4 else IPv6Address(raw)), port)
