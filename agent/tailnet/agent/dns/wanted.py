"""What the tailnet wants of DNS: from control's configuration and the user's choice.

Source: tailscale ipn/ipnlocal/node_backend.go dnsConfigForNetmap.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from tailnet.agent.addr import IPAddress
from tailnet.agent.dns.names import ROOT, Name, parse_name_untrusted, within
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.dns import DNSConfig, DNSRecord, Resolver
from tailnet.agent.tailcfg.node import Node

REVERSE_ZONES = (
    Name("0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa"),
    *(Name(f"{octet}.100.in-addr.arpa") for octet in range(64, 128)),
)
"""Reverse zones of the addresses that only a tailnet hands out."""

PROXIES_DNS = 26  # capability version from which an exit node answers DNS for others


@dataclass(frozen=True, slots=True)
class ExitNode:
    """The exit node in use.

    Attributes:
        node: as control describes it.
        doh: ``http://IP:PORT/dns-query`` of its peer API, empty if it has none.
    """

    node: Node
    doh: str = ""

    @property
    def proxies(self) -> bool:
        """True if it answers DNS for us."""
        services = (self.node.hostinfo.services if self.node.hostinfo else None) or ()
        offers = any(s.proto == "peerapi-dns-proxy" for s in services)
        return bool(self.doh) and (self.node.cap >= PROXIES_DNS or offers)


@dataclass(frozen=True, slots=True)
class Wanted:
    """DNS of the tailnet, before anything is known of this host.

    Attributes:
        defaults: resolvers for every name that no route covers; empty leaves them to the host.
        routes: resolvers by suffix; none means that only we know what is below.
        search: domains to try for short names.
        records: addresses of extra names, over those of nodes.
        own: names of this host, over all others; ``*.`` in front is for those below.
        only_v6: we have no IPv4 address, so 100.100.100.100 cannot be reached.
        unrouted: names of nodes exist though no route leads to them (MagicDNS is off).
        suffix: the tailnet's domain while MagicDNS is on, else the root.
    """

    defaults: tuple[Resolver, ...] = ()
    routes: Mapping[Name, tuple[Resolver, ...]] = field(default_factory=dict)
    search: tuple[Name, ...] = ()
    records: Mapping[Name, tuple[IPAddress, ...]] = field(default_factory=dict)
    only_v6: bool = False
    own: Mapping[Name, tuple[IPAddress, ...]] = field(default_factory=dict)
    unrouted: bool = False
    suffix: Name = ROOT


NOTHING = Wanted()


def wanted_dns(
    dns: DNSConfig,
    own: Node,
    *,
    accept: bool,
    exit_node: ExitNode | None = None,
    local: Mapping[Name, tuple[IPAddress, ...]] | None = None,
) -> Wanted:
    """From control's configuration; what is malformed in it is left out.

    Args:
        dns: as received.
        exit_node: the one in use.
        own: our node.  While its key is expired nothing is wanted, so that the login page resolves.
        accept: the user lets the tailnet set DNS; otherwise only names of nodes and records count.
        local: names of this host alone, by the user.
    """
    if own.expired:
        return NOTHING
    ips = own.ips()
    only_v6 = bool(ips) and all(ip.version == 6 for ip in ips)
    records = _records(dns.extra_records or ())
    if not accept:
        return Wanted(records=records, only_v6=only_v6, own=local or {})
    suffix = Name(own.name.removesuffix(".").partition(".")[2].lower()) if dns.proxied else ROOT
    routes = _routes(dns) | _ours(dns, suffix)
    for name in records:
        if not any(within(name, zone) for zone in routes):
            routes[name] = ()
    if exit_node is not None and exit_node.proxies:
        routes = _through_exit_node(routes)
    return Wanted(
        defaults=_defaults(dns, exit_node),
        routes=routes,
        search=tuple(_names(dns.domains or ())),
        records=records,
        only_v6=only_v6,
        own=local or {},
        unrouted=not dns.proxied,
        suffix=suffix,
    )


def _ours(dns: DNSConfig, suffix: Name) -> dict[Name, tuple[Resolver, ...]]:
    """Zones that nobody else is asked for."""
    if not dns.proxied:
        return {}
    return dict.fromkeys((suffix, *REVERSE_ZONES) if suffix else REVERSE_ZONES, ())


def _defaults(dns: DNSConfig, exit_node: ExitNode | None) -> tuple[Resolver, ...]:
    """Whom all other names are asked of."""
    own = tuple(dns.resolvers or ())
    if exit_node is None:
        return own
    if exit_node.proxies:
        return tuple(r for r in own if r.use_with_exit_node) or (Resolver(addr=exit_node.doh),)
    others = exit_node.node.exit_node_dns_resolvers or dns.fallback_resolvers or ()
    return own or tuple(others)


def _routes(dns: DNSConfig) -> dict[Name, tuple[Resolver, ...]]:
    routes: dict[Name, tuple[Resolver, ...]] = {}
    for text, resolvers in (dns.routes or {}).items():
        for name in _names((text,)):
            routes[name] = tuple(resolvers or ())
    return routes


def _through_exit_node(
    routes: Mapping[Name, tuple[Resolver, ...]],
) -> dict[Name, tuple[Resolver, ...]]:
    """What stays: zones that we answer, and resolvers meant to be used beside an exit node."""
    kept: dict[Name, tuple[Resolver, ...]] = {}
    for name, resolvers in routes.items():
        flagged = tuple(r for r in resolvers if r.use_with_exit_node)
        if flagged or not resolvers:
            kept[name] = flagged
    return kept


def _records(records: tuple[DNSRecord, ...]) -> dict[Name, tuple[IPAddress, ...]]:
    """A and AAAA records; others are not for us."""
    out: dict[Name, tuple[IPAddress, ...]] = {}
    for record in records:
        try:
            ip = ip_address(record.value)
        except ValueError:
            continue
        if record.type not in ("", "A" if ip.version == 4 else "AAAA"):
            continue
        for name in _names((record.name,)):
            out[name] = (*out.get(name, ()), ip)
    return out


def _names(texts: tuple[str, ...]) -> list[Name]:
    names = []
    for text in texts:
        try:
            names.append(parse_name_untrusted(text))
        except BadPacket:
            continue
    return names
