"""Which rtnetlink notifications are worth a look, decided by a few bytes of each.

A router with a full table sends thousands a second, so nothing is parsed that is not needed::

    0          4      6      8          12         16
    ┌──────────┬──────┬──────┬──────────┬──────────┬─ body ─────────────────────────
    │ length   │ type │ flags│ sequence │ port     │ link: family _ type2 index4 flags4
    └──────────┴──────┴──────┴──────────┴──────────┤ addr: family len flags scope index4
                                                   │ route, rule: family dst_len src_len tos table …
                                                   └────────────────────────────────

Integers are in the host's byte order; messages begin at multiples of four.

Source: Linux include/uapi/linux/rtnetlink.h; tailscale net/netmon/netmon_linux.go.
"""

from enum import Flag, auto
from struct import Struct

from tailnet.platform.linux.constants import ROUTE_TABLE
from tailnet.platform.linux.rules import RULE_PROTOCOL, RULE_WINDOW

_HEADER = Struct("=IHHII")
_INDEX = Struct("=i")
_ATTRIBUTE = Struct("=HH")

NEWLINK, DELLINK, NEWADDR, DELADDR, NEWROUTE, DELROUTE = 16, 17, 20, 21, 24, 25
NEWRULE, DELRULE = 32, 33
_TABLE_UNSPEC, _TABLE_LOCAL = 0, 255
_FRA_PRIORITY = 6
_FRA_PROTOCOL = 21
_FLAGS_AT, _IFF_UP = 8, 1
_SCOPE_AT, _SCOPE_LINK = 3, 253
_BODY_ROUTE = 12  # bytes of struct rtmsg and struct fib_rule_hdr


class Hint(Flag):
    """What may have changed."""

    NONE = 0
    NETWORK = auto()
    TUNNEL = auto()


def hints(data: bytes, tun_index: int, own_port: int = 0) -> Hint:
    """All of one read; what is cut or unknown counts as a change of everything.

    Args:
        data: one or more whole notifications, from the kernel.
        tun_index: of the tunnel's device; 0 where there is none.
        own_port: of our own requests about routes, which are no news; 0 if unknown.
    """
    found, at = Hint.NONE, 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return Hint.NETWORK | Hint.TUNNEL
        if not own_port or port != own_port:
            found |= _hint(kind, data[at + _HEADER.size : at + length], tun_index)
        at += (length + 3) & ~3
    return found


def _hint(kind: int, body: bytes, tun_index: int) -> Hint:
    if len(body) < 8:
        return Hint.NETWORK | Hint.TUNNEL
    if kind in (NEWLINK, DELLINK, NEWADDR, DELADDR):
        return _device(kind, _INDEX.unpack_from(body, 4)[0] == tun_index, body)
    if kind in (NEWROUTE, DELROUTE):
        return _route(kind, body[4])
    if kind in (NEWRULE, DELRULE):
        return _rule(kind, body)
    return Hint.NONE


def _device(kind: int, of_tunnel: bool, body: bytes) -> Hint:
    if not of_tunnel:
        return Hint.NETWORK
    if kind == NEWADDR:  # the kernel's own for the link: IPv6 was turned on
        return Hint.TUNNEL if body[_SCOPE_AT] == _SCOPE_LINK else Hint.NONE
    up = kind == NEWLINK and len(body) >= _FLAGS_AT + 4 and body[_FLAGS_AT] & _IFF_UP
    return Hint.NONE if up else Hint.TUNNEL


def _route(kind: int, table: int) -> Hint:
    if table == ROUTE_TABLE:
        return Hint.TUNNEL if kind == DELROUTE else Hint.NONE
    # the local table follows addresses, which have messages of their own
    return Hint.NONE if table == _TABLE_LOCAL else Hint.NETWORK


def _rule(kind: int, body: bytes) -> Hint:
    """Ours go, or others' come or go that are asked before ours."""
    priority, protocol = 0, 0
    at = _BODY_ROUTE
    while at + _ATTRIBUTE.size <= len(body):
        length, attribute = _ATTRIBUTE.unpack_from(body, at)
        if attribute == _FRA_PRIORITY and length == 8 and at + 8 <= len(body):
            priority = int(_INDEX.unpack_from(body, at + 4)[0])
        if attribute == _FRA_PROTOCOL and length == 5 and at + 5 <= len(body):
            protocol = body[at + 4]
        if length < _ATTRIBUTE.size:
            break
        at += (length + 3) & ~3
    theirs = protocol != RULE_PROTOCOL and priority < RULE_WINDOW.stop
    lost = kind == DELRULE and priority in RULE_WINDOW
    return Hint.TUNNEL if lost or theirs else Hint.NONE
