"""Messages about routes, as rtnetlink has them; for tens of thousands at a time.

A datagram holds several messages, each padded to 4 bytes.  Numbers are in the host's byte order,
addresses in the network's::

    nlmsghdr   u32 length | u16 type | u16 flags | u32 sequence | u32 port
    rtmsg      u8 family | u8 dst_len | u8 src_len | u8 tos |
               u8 table | u8 protocol | u8 scope | u8 type | u32 flags
    rtattr     u16 length | u16 type | value | padding to 4            any number of them
    nlmsgerr   i32 −errno (0 is an acknowledgement) | what it answers

Source: Linux include/uapi/linux/{netlink,rtnetlink}.h; RFC 3549.
"""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6
from struct import Struct, error
from typing import NamedTuple

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.rules import TABLE_MAIN, Request, Route, Verb

_HEADER = Struct("=IHHII")
_RTMSG = Struct("=BBBBBBBBI")
_ATTR = Struct("=HH")
_U32_ATTR = Struct("=HHI")
_I32 = Struct("=i")
_U32 = Struct("=I")

_ERROR, _DONE = 2, 3
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_REQUEST, _ACK, _DUMP_INTERRUPTED = 1, 4, 0x10
_DUMP, _REPLACE, _EXCLUSIVE, _CREATE = 0x300, 0x100, 0x200, 0x400
_DST, _OIF, _PRIORITY, _TABLE = 1, 4, 6, 15
_UNICAST, _UNREACHABLE, _THROW = 1, 7, 9
_NOWHERE = 255  # scope: any, in a request to delete


class Report(NamedTuple):
    """The kernel's word on one request; ``code``: errno, 0 for done."""

    sequence: int
    code: int


class Found(NamedTuple):
    """One route of a dump that is a ``Route``."""

    sequence: int
    route: Route


class End(NamedTuple):
    """The dump is over.  ``interrupted``: the table changed meanwhile, look again."""

    sequence: int
    code: int
    interrupted: bool


def encode_dump(family: int, table: int, sequence: int) -> bytes:
    """Ask for all routes of a table; kernels before 4.20 send those of all tables."""
    body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + _U32_ATTR.pack(8, _TABLE, table)
    flags = _REQUEST | _DUMP
    return _HEADER.pack(_HEADER.size + len(body), _GETROUTE, flags, sequence, 0) + body


def encode_change(request: Request, sequence: int, *, acknowledge: bool) -> bytes:
    """Add or delete one route.  Errors are told in any case, success if ``acknowledge``.

    In the main table others have routes too: there a place that is occupied is not taken.
    """
    route = request.item
    assert isinstance(route, Route)
    dst, oif, metric = route.dst, route.oif, route.metric
    blocks = route.blocks
    kind, flags, before, after = _form(
        request.verb, dst.version, dst.prefixlen, route.table, oif, metric, route.protocol, blocks
    )
    packed = dst.network_address.packed
    length = _HEADER.size + len(before) + len(packed) + len(after)
    flags |= _ACK if acknowledge else 0
    return _HEADER.pack(length, kind, flags, sequence, 0) + before + packed + after


@lru_cache(maxsize=128)
def _form(  # noqa: PLR0913, PLR0917 -- all of a request but where to; few of ten thousand differ in it
    verb: Verb,
    version: int,
    prefixlen: int,
    table: int,
    oif: int | None,
    metric: int,
    protocol: int,
    blocks: bool,
) -> tuple[int, int, bytes, bytes]:
    """Type, flags, and what comes before and after the address."""
    family, size = (AF_INET, 4) if version == 4 else (AF_INET6, 16)
    if verb is Verb.ADD:
        kind, scope = _NEWROUTE, 0
        flags = _CREATE | (_EXCLUSIVE if table == TABLE_MAIN else _REPLACE)
    else:
        kind, scope, flags = _DELROUTE, _NOWHERE, 0
    what = _UNREACHABLE if blocks else _THROW if oif is None else _UNICAST
    short = table if table < 256 else 0
    before = _RTMSG.pack(family, prefixlen, 0, 0, short, protocol, scope, what, 0)
    before += _U32_ATTR.pack(8, _TABLE, table) + _ATTR.pack(4 + size, _DST)
    after = _U32_ATTR.pack(8, _PRIORITY, metric) if metric else b""
    after += _U32_ATTR.pack(8, _OIF, oif) if oif is not None else b""
    return kind, flags | _REQUEST, before, after


def decode(data: bytes, table: int) -> Iterator[Report | Found | End]:
    """What a datagram of the kernel says; of routes only those of ``table`` that could be ours.

    Others have routes through gateways and of other types there.

    Raises:
        PlatformError: it makes no sense.
    """
    try:
        yield from _decode(data, table)
    except (error, ValueError) as wrong:
        msg = "the kernel's answer about routes makes no sense"
        raise PlatformError(msg) from wrong


def _decode(data: bytes, table: int) -> Iterator[Report | Found | End]:
    at = 0
    while at < len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            raise ValueError
        body = at + _HEADER.size
        interrupted = bool(flags & _DUMP_INTERRUPTED)
        if kind == _ERROR:
            yield Report(sequence, -_I32.unpack_from(data, body)[0])
        elif kind == _DONE:
            code = -_I32.unpack_from(data, body)[0] if length >= _HEADER.size + 4 else 0
            yield End(sequence, code, interrupted)
        elif kind == _NEWROUTE:
            route = _route(data, body, at + length, table)
            if route is not None:
                yield Found(sequence, route)
        at += length + 3 & ~3


def _route(data: bytes, at: int, end: int, table: int) -> Route | None:
    family, dst_len, _, _, found_table, protocol, _, kind, _ = _RTMSG.unpack_from(data, at)
    at += _RTMSG.size
    oif, metric, address = None, 0, b""
    while at + _ATTR.size <= end:
        length, name = _ATTR.unpack_from(data, at)
        if length < _ATTR.size or at + length > end:
            raise ValueError
        if name == _TABLE:
            found_table = _U32.unpack_from(data, at + 4)[0]
        elif name == _DST:
            address = data[at + 4 : at + length]
        elif name == _OIF:
            oif = _U32.unpack_from(data, at + 4)[0]
        elif name == _PRIORITY:
            metric = _U32.unpack_from(data, at + 4)[0]
        at += length + 3 & ~3
    known = kind in {_UNICAST, _UNREACHABLE, _THROW} and family in {AF_INET, AF_INET6}
    if found_table != table or not known:
        return None
    if kind != _UNICAST:
        oif = None
    elif oif is None:
        return None
    address = address or bytes(4 if family == AF_INET else 16)
    dst = (
        IPv4Network((int.from_bytes(address, "big"), dst_len))
        if family == AF_INET
        else IPv6Network((int.from_bytes(address, "big"), dst_len))
    )
    return Route(dst, table, oif, metric, protocol, blocks=kind == _UNREACHABLE)
