"""Prefs of ours about paths, as text and as values.

::

    PathPolicy          STABLE-ID=direct-only|relay-only    ways to a peer that the user allows
    EndpointInterfaces  [+|-]PATTERN                        whose addresses are told, docker*
    StaticEndpoints     IP:PORT                             told besides, a forwarded port
"""

import re
from collections.abc import Iterable, Mapping

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.magicsock.peers import Policy

_SHOWN = 64  # characters of what somebody wrote, in an error


def parse_policies(texts: Iterable[str]) -> Mapping[str, Policy]:
    """By stable id of the peer; the last of several counts.

    Raises:
        UserError: one of them is wrong.
    """
    found = {}
    for text in texts:
        peer, _, policy = text.rpartition("=")
        try:
            found[peer] = Policy(policy)
        except ValueError:
            peer = ""
        if not peer:
            choice = "|".join(each.value for each in Policy)
            msg = f"bad path policy {text[:_SHOWN]!r}: it has the form PEER={choice}"
            raise UserError(msg)
    return found


def check_interfaces(patterns: Iterable[str]) -> None:
    """Names of interfaces, ``*`` and ``?`` for others, after a sign.

    Raises:
        UserError: one of them is wrong.
    """
    for pattern in patterns:
        if not re.fullmatch(r"[+-]?[^\s/,+-][^\s/,]{0,31}", pattern):
            msg = (
                f"bad interface {pattern[:_SHOWN]!r}: it is a name such as eth0 or docker*, "
                "after + (only these) or - (not these)"
            )
            raise UserError(msg)


def parse_endpoints(texts: Iterable[str]) -> tuple[AddrPort, ...]:
    """Addresses at which others reach us, by the user's word.

    Raises:
        UserError: one of them is wrong.
    """
    found = []
    for text in texts:
        try:
            addr = AddrPort.parse(text)
        except BadPacket:
            addr = None
        if addr is None or not addr.port or addr.ip.is_unspecified or addr.ip.is_multicast:
            msg = f"bad endpoint {text[:_SHOWN]!r}: it has the form IP:PORT or [IPv6]:PORT"
            raise UserError(msg)
        found.append(addr)
    return tuple(found)
