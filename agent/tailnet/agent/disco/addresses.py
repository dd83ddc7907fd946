"""Addresses in disco messages: IPv6 16 bytes (IPv4 is mapped, ``::ffff:a.b.c.d``), port u16."""

from collections.abc import Iterable
from ipaddress import IPv6Address

from tailnet.agent.addr import AddrPort, unmap

ADDRESS_LEN = 18  # bytes
_V4_MAPPED = bytes(10) + b"\xff\xff"


def encode_address(address: AddrPort) -> bytes:
    """One."""
    packed = address.ip.packed
    return (packed if len(packed) == 16 else _V4_MAPPED + packed) + address.port.to_bytes(2)


def encode_addresses(addresses: Iterable[AddrPort]) -> bytes:
    """Any number."""
    return b"".join(map(encode_address, addresses))


def parse_address(raw: bytes) -> AddrPort:
    """Exactly 18 bytes; all are an address."""
    return AddrPort(unmap(IPv6Address(raw[:16])), int.from_bytes(raw[16:]))


def parse_addresses(raw: bytes) -> tuple[AddrPort, ...]:
    """As many as there are whole ones."""
    whole = len(raw) - len(raw) % ADDRESS_LEN
    return tuple(parse_address(raw[i : i + ADDRESS_LEN]) for i in range(0, whole, ADDRESS_LEN))
