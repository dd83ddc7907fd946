"""Whom to ask, how, and in which order: from control's resolvers to single attempts.

Source: tailscale net/dns/resolver/forwarder.go, resolversWithDelays.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from tailnet.agent.addr import SERVICE_V4, SERVICE_V6, AddrPort, IPAddress
from tailnet.agent.dns.publicdns import dial_addresses, doh_base, doh_only, sibling
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.dns import Resolver

PLAIN_AFTER_HTTPS = 0.5  # seconds of head start that HTTPS gets
SIBLING_AFTER = 0.7  # seconds until a known resolver's other address is asked
MAX_UPSTREAMS = 16  # attempts for one question


class Plain(NamedTuple):
    """A server asked by UDP and TCP."""

    to: AddrPort


class Https(NamedTuple):
    """A server asked by HTTP POST.

    Attributes:
        url: ``https://`` of a known resolver, or ``http://`` of a peer inside the tailnet.
        dial: its addresses if they are known without a name lookup, else empty.
    """

    url: str
    dial: tuple[IPAddress, ...]


class Upstream(NamedTuple):
    """One server and when to ask it: seconds after the question came."""

    server: Plain | Https
    delay: float


def upstreams(resolvers: Iterable[Resolver]) -> tuple[Upstream, ...]:
    """Everything worth trying.  Empty: none of the resolvers is of a kind that we can ask.

    Ourselves and what only starts with ``tls:`` is left out.
    """
    found: dict[Plain | Https, float] = {}
    for resolver in resolvers:
        for server, delay in _attempts(resolver.addr):
            found[server] = min(delay, found.get(server, delay))
    ordered = sorted(found.items(), key=lambda item: item[1])
    return tuple(Upstream(server, delay) for server, delay in ordered[:MAX_UPSTREAMS])


def is_loopback(resolver: Resolver) -> bool:
    """It is a program on this host."""
    to = _addr_port(resolver.addr)
    return to is not None and to.ip.is_loopback


def _attempts(text: str) -> Iterable[tuple[Plain | Https, float]]:
    if text.startswith("http://"):
        return [(Https(text, ()), 0.0)]
    if text.startswith("https://"):
        dial = dial_addresses(text)
        return [(Https(text, dial), 0.0)] if dial else []
    to = _addr_port(text)
    if to is None or to.ip in (SERVICE_V4, SERVICE_V6):
        return []
    base = doh_base(to.ip) if to.port == 53 else None
    if base is None:
        return [(Plain(to), 0.0)]
    https = (Https(base, dial_addresses(base)), 0.0)
    if doh_only(base):
        return [https]
    other = sibling(to.ip)
    more = [(Plain(AddrPort(other, 53)), SIBLING_AFTER)] if other is not None else []
    return [https, (Plain(to), PLAIN_AFTER_HTTPS), *more]


def _addr_port(text: str) -> AddrPort | None:
    try:
        return AddrPort(ip_address(text), 53)
    except ValueError:
        pass
    try:
        return AddrPort.parse(text)
    except BadPacket:
        return None
