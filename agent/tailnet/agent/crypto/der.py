"""Dates and names of an X.509 certificate.

For certificates that are trusted already, by a chain that OpenSSL has verified or by a pinned hash:
signatures, constraints and whatever else makes one trusted are not looked at.  ``cryptography``
could do this, and would be 10 MB of memory for it.

::

    SEQUENCE                       certificate
      SEQUENCE                     what is signed
        [0] version                absent in the first version
        INTEGER, SEQUENCE, SEQUENCE      serial number, algorithm, issuer
        SEQUENCE                   UTCTime or GeneralizedTime, twice: valid from, until
        SEQUENCE, SEQUENCE         subject, its key
        [1], [2]                   absent nearly always
        [3] SEQUENCE of SEQUENCE   extensions: OID, BOOLEAN or nothing, OCTET STRING
      …                            algorithm and signature

Source: RFC 5280 §4.1, §4.2.1.6; X.690 §8.1 (tags and lengths), §10.1 (definite lengths only).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import BadPacket

_INTEGER, _OCTETS, _OID = 0x02, 0x04, 0x06
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_SEQUENCE = 0x30
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # [0] and [3] of what is signed
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87  # [2] and [7] of a GeneralName
_VERSIONS = (b"\x00", b"\x02")  # 1 and 3, as they are counted there
_SUBJECT_ALT_NAME = bytes([0x55, 0x1D, 0x11])  # 2.5.29.17
_MULTI_BYTE_TAG = 0x1F
_MAX_LENGTH_BYTES = 3
_CENTURY = 50  # years of two digits from here on are of the 20th; RFC 5280 §4.1.2.5.1


class Certificate(NamedTuple):
    """What is asked of one.

    Attributes:
        begins: from when on it is valid.
        ends: until when.
        names: host names of its subjectAltName, as written.
        addresses: of its subjectAltName.
    """

    begins: datetime
    ends: datetime
    names: tuple[str, ...]
    addresses: tuple[IPAddress, ...]


class _Item(NamedTuple):
    tag: int
    body: bytes


def read_certificate_untrusted(der: bytes) -> Certificate:
    """Parse one certificate.

    Raises:
        BadPacket: it is damaged, or says twice what it is for.
    """
    fields = _signed(der)
    if fields and fields[0].tag == _VERSION:
        version = _only(fields.pop(0).body, _INTEGER)
    else:
        version = _VERSIONS[0]
    if version not in _VERSIONS:
        raise _bad()
    if [item.tag for item in fields[:6]] != [_INTEGER, *[_SEQUENCE] * 5]:
        raise _bad()
    begins, ends = _pair(_items(fields[3].body))
    found = list(_extensions(fields[6:]))
    if len(found) > 1:
        raise _bad()
    names = [item for value in found for item in _items(_only(value, _SEQUENCE))]
    return Certificate(
        _time(begins),
        _time(ends),
        tuple(_text(item.body) for item in names if item.tag == _DNS_NAME),
        tuple(_address(item.body) for item in names if item.tag == _IP_ADDRESS),
    )


def _signed(der: bytes) -> list[_Item]:
    whole = _items(_only(der, _SEQUENCE))
    if not whole or whole[0].tag != _SEQUENCE:
        raise _bad()
    return _items(whole[0].body)


def _extensions(rest: list[_Item]) -> Iterator[bytes]:
    """Values of those that are subjectAltName."""
    for item in rest:
        if item.tag == _EXTENSIONS:
            for extension in _items(_only(item.body, _SEQUENCE)):
                parts = _items(extension.body)
                if len(parts) < 2 or parts[-1].tag != _OCTETS:
                    raise _bad()
                if parts[0] == (_OID, _SUBJECT_ALT_NAME):
                    yield parts[-1].body


def _pair(items: list[_Item]) -> tuple[_Item, _Item]:
    if len(items) != 2:
        raise _bad()
    return items[0], items[1]


def _only(data: bytes, tag: int) -> bytes:
    """The body of what is one item of this kind, and nothing after it."""
    items = _items(data)
    if len(items) != 1 or items[0].tag != tag:
        raise _bad()
    return items[0].body


def _items(data: bytes) -> list[_Item]:
    """Tag, length, body, and so on until the end."""
    found, at = [], 0
    while at < len(data):
        tag, length, start = data[at], *_length(data, at + 1)
        at = start + length
        if tag & _MULTI_BYTE_TAG == _MULTI_BYTE_TAG or at > len(data):
            raise _bad()
        found.append(_Item(tag, data[start:at]))
    return found


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length, and where the body begins."""
    first = data[at] if at < len(data) else 0x80
    if first < 0x80:
        return first, at + 1
    count = first & 0x7F
    raw = data[at + 1 : at + 1 + count]
    if not 1 <= count <= _MAX_LENGTH_BYTES or len(raw) != count:
        raise _bad()
    return int.from_bytes(raw, "big"), at + 1 + count


def _time(item: _Item) -> datetime:
    text = _text(item.body)
    digits = text.removesuffix("Z")
    wanted = {_UTC_TIME: 12, _GENERALIZED_TIME: 14}.get(item.tag)
    if digits == text or not digits.isdecimal() or len(digits) != wanted:
        raise _bad()
    head, rest = digits[:-10], digits[-10:]
    century = 0 if item.tag == _GENERALIZED_TIME else 1900 if int(head) >= _CENTURY else 2000
    month, day, hour, minute, second = (int(rest[i : i + 2]) for i in range(0, 10, 2))
    try:
        return datetime(century + int(head), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise _bad() from None


def _text(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise _bad() from None


def _address(raw: bytes) -> IPAddress:
    if len(raw) == 4:
        return IPv4Address(raw)
    if len(raw) == 16:
        return IPv6Address(raw)
    raise _bad()


def _bad() -> BadPacket:
    return BadPacket("not a certificate")
