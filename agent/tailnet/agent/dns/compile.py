"""From what the tailnet wants and what the host can do, to what each is told.

The host can send some names to one resolver and others elsewhere (split DNS), or it cannot; then
our resolver gets all of them and forwards what is not ours to the resolvers the host had before.

Source: tailscale net/dns/manager.go compileConfig.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from tailnet.agent.addr import SERVICE_V4, SERVICE_V6, IPAddress, IPNetwork, is_tailnet
from tailnet.agent.dns.names import ROOT, Name, within
from tailnet.agent.dns.wanted import Wanted
from tailnet.agent.errors import TailnetError
from tailnet.agent.tailcfg.dns import Resolver
from tailnet.platform.interface import DnsConfig

DOH_ONLY: tuple[IPNetwork, ...] = (
    *map(IPv4Network, ("45.90.28.0/24", "45.90.30.0/24", "185.71.138.138/32")),
    *map(IPv6Network, ("2a07:a8c0::/33", "2a07:a8c1::/33", "2606:1a40::/48")),
    *map(IPv6Network, ("2606:1a40:1::/48", "2001:67c:930::1/128")),
)
"""Public resolvers that know their user, or speak at all, only over HTTPS: never for the host."""


class BaseUnreadable(TailnetError):
    """The host's resolvers are needed and could not be read; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What our resolver and the host are told.

    Attributes:
        routes: resolvers by suffix, the root included where all names come to us; a suffix
            without any is answered by us alone.
        host: for the host.
    """

    routes: Mapping[Name, tuple[Resolver, ...]]
    host: DnsConfig


@dataclass(frozen=True, slots=True)
class Host:
    """What this host's DNS can do.

    Attributes:
        split: it can send only some suffixes to us.
        base: how it resolved before us; ``None`` if nobody can tell.
        unreadable: why ``base``, which exists, could not be read.
    """

    split: bool
    base: DnsConfig | None = None
    unreadable: str = ""


def compile_dns(wanted: Wanted, host: Host) -> Compiled:
    """Decide, by the first rule that fits.

    Raises:
        BaseUnreadable: see there.
    """
    plain = _plain(wanted.defaults)
    nothing = not wanted.routes and not wanted.own
    if nothing and (not wanted.defaults or (plain and not _stray(wanted))):
        return Compiled({}, DnsConfig(nameservers=plain, search=wanted.search))
    us: tuple[IPAddress, ...] = (SERVICE_V6,) if wanted.only_v6 else (SERVICE_V4,)
    if wanted.defaults:
        routes = {**wanted.routes, ROOT: wanted.defaults}
        return Compiled(routes, DnsConfig(nameservers=us, search=wanted.search))
    split = _with_own(wanted)
    suffixes = tuple(sorted(split))
    if host.split and not _stray(wanted):
        lists = set(wanted.routes.values())
        plain = (
            _plain(lists.pop()) if len(lists) == 1 and not (wanted.records or wanted.own) else ()
        )
        told = DnsConfig(nameservers=plain or us, search=wanted.search, match=suffixes)
        return Compiled({} if plain else split, told)
    if host.unreadable:
        raise BaseUnreadable(host.unreadable)
    if host.base is None:
        told = DnsConfig(nameservers=us, search=wanted.search, match=suffixes)
        return Compiled(split, told)
    base = tuple(Resolver(addr=str(ip)) for ip in host.base.nameservers if not _is_us(ip))
    more = tuple(name for name in host.base.search if name not in wanted.search)
    told = DnsConfig(nameservers=us, search=(*wanted.search, *more))
    return Compiled({**wanted.routes, **({ROOT: base} if base else {})}, told)


def _with_own(wanted: Wanted) -> dict[Name, tuple[Resolver, ...]]:
    """Routes where nobody else can be asked about what is below a name of this host."""
    names = [Name(name.removeprefix("*.")) for name in wanted.own]
    more = [name for name in names if not any(within(name, suffix) for suffix in wanted.routes)]
    return {**dict.fromkeys(more, ()), **wanted.routes}


def _stray(wanted: Wanted) -> bool:
    """True if a name that only we know is below no route."""
    if wanted.unrouted:
        return True
    return any(not any(within(n, suffix) for suffix in wanted.routes) for n in wanted.records)


def _plain(resolvers: tuple[Resolver, ...]) -> tuple[IPAddress, ...]:
    """The addresses if the host can ask them itself, all of them, even while we are down."""
    found = []
    for resolver in resolvers:
        try:
            ip = ip_address(resolver.addr.removesuffix(":53").strip("[]"))
        except ValueError:
            return ()
        if is_tailnet(ip) or any(ip in net for net in DOH_ONLY):
            return ()
        found.append(ip)
    return tuple(found)


def _is_us(ip: IPAddress) -> bool:
    return ip in (SERVICE_V4, SERVICE_V6)
