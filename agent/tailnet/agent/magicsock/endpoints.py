"""Our own addresses, as peers may reach us.

Source: tailscale wgengine/magicsock/{magicsock,endpoint_tracker}.go determineEndpoints;
net/netmon/state.go LocalAddresses.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress, is_tailnet
from tailnet.agent.magicsock.choice import is_private
from tailnet.agent.netcheck.report import Report
from tailnet.agent.tailcfg import mapping

TRACKED_FOR = 310.0  # seconds that a vanished address is still told
TRACKED_PER_IP = 6
MAX_PER_SUBNET = 2  # IPv6 addresses of one subnet; temporary ones would be many
_OVERLAYS = ("zt", "wt0")  # interfaces of other virtual networks, by how their names begin


class Telling(NamedTuple):
    """What the user wants told.

    Attributes:
        interfaces: patterns of names after ``+`` or nothing (only these) or ``-`` (not these).
        static: addresses told besides what is found.
    """

    interfaces: tuple[str, ...] = ()
    static: tuple[AddrPort, ...] = ()

    def tells(self, interface: str) -> bool:
        """The addresses of this interface are told; ``-`` wins over ``+``."""
        only = [p.removeprefix("+") for p in self.interfaces if not p.startswith("-")]
        never = [p[1:] for p in self.interfaces if p.startswith("-")]
        if any(fnmatchcase(interface, p) for p in never):
            return False
        return not only or any(fnmatchcase(interface, p) for p in only)


TELL_ALL = Telling()


class Kind(IntEnum):
    """Where an endpoint comes from; the number is what control is told."""

    LOCAL = mapping.ENDPOINT_LOCAL
    STUN = mapping.ENDPOINT_STUN
    PORTMAPPED = mapping.ENDPOINT_PORT_MAPPED
    STUN4_LOCAL_PORT = mapping.ENDPOINT_STUN4_LOCAL_PORT
    EXPLICIT = mapping.ENDPOINT_EXPLICIT


class InterfaceAddr(NamedTuple):
    """One address of one interface; ``prefix`` is the length of its network in bits."""

    name: str
    ip: IPAddress
    prefix: int
    up: bool


class Ports(NamedTuple):
    """Bound UDP ports, 0 where a family has none."""

    v4: int
    v6: int


def local_addresses(
    interfaces: Iterable[InterfaceAddr], skip: Collection[str] = (), telling: Telling = TELL_ALL
) -> tuple[IPAddress, ...]:
    """Addresses of this machine worth telling.

    Never those of interfaces that are down, in ``skip``, not ``telling`` or another overlay's, nor
    tailnet addresses, nor IPv6 link-local.  IPv4 link-local and unique local IPv6 only if there is
    nothing better, loopback only if there is nothing else.
    """
    regular: list[IPAddress] = []
    private_links: list[IPAddress] = []
    loopback: list[IPAddress] = []
    subnets: Counter[object] = Counter()
    for each in interfaces:
        name, ip, prefix, _ = each
        if not _of_a_host(each, skip) or not telling.tells(name):
            continue
        if ip.is_loopback:
            loopback.append(ip)
            continue
        if ip.version == 6:
            if ip.is_link_local:
                continue
            subnet = ip_network((ip, prefix), strict=False)
            subnets[subnet] += 1
            if subnets[subnet] > MAX_PER_SUBNET:
                continue
        poor = ip.is_link_local if ip.version == 4 else is_private(ip)
        (private_links if poor else regular).append(ip)
    return tuple(dict.fromkeys(regular or private_links or loopback))


def ip_versions(interfaces: Iterable[InterfaceAddr], skip: Collection[str] = ()) -> frozenset[int]:
    """IP versions that may lead out, so that servers are asked by them.

    Here a unique local IPv6 address counts beside a better one of IPv4: a router may translate it.
    """
    return frozenset(
        each.ip.version
        for each in interfaces
        if _of_a_host(each, skip)
        and not each.ip.is_loopback
        and not (each.ip.version == 6 and each.ip.is_link_local)
    )


def _of_a_host(each: InterfaceAddr, skip: Collection[str]) -> bool:
    """An address of a link that works and is no tunnel's."""
    if not each.up or each.name in skip or each.name.startswith(_OVERLAYS):
        return False
    return not (is_tailnet(each.ip) or each.ip.is_multicast or each.ip.is_unspecified)


class Tracker:
    """Remembers addresses seen from outside, so that one lost answer takes nothing away."""

    def __init__(self) -> None:
        self._seen: dict[AddrPort, tuple[Kind, float]] = {}

    def clear(self) -> None:
        """We are on another network."""
        self._seen.clear()

    def update(self, found: Sequence[tuple[AddrPort, Kind]], now: float) -> None:
        """Note what was seen at ``now`` [s]; forget what is old or crowded out."""
        for addr, kind in found:
            self._seen.pop(addr, None)
            self._seen[addr] = (kind, now)
        per_ip: Counter[IPAddress] = Counter()
        for addr, (_, at) in reversed(list(self._seen.items())):
            per_ip[addr.ip] += 1
            if now - at > TRACKED_FOR or per_ip[addr.ip] > TRACKED_PER_IP:
                del self._seen[addr]

    def known(self) -> list[tuple[AddrPort, Kind]]:
        """Everything remembered, latest last."""
        return [(addr, kind) for addr, (kind, _) in self._seen.items()]


def collect(  # noqa: PLR0913 - one argument a source
    report: Report,
    local: Sequence[IPAddress],
    ports: Ports,
    tracker: Tracker,
    now: float,
    *,
    mapped: AddrPort | None = None,
    static: Sequence[AddrPort] = (),
    fixed: bool = True,
) -> tuple[tuple[AddrPort, int], ...]:
    """All own endpoints with their kinds, best first, each once.

    Args:
        report: what STUN servers saw.
        local: addresses of this machine.
        ports: the bound ports.
        tracker: addresses seen before.
        now: seconds.
        mapped: where the gateway lets datagrams in, if it was asked to.
        static: addresses that the user gave.
        fixed: the user chose the port, so that a hard NAT may forward the IPv4 one by hand.
    """
    found = [] if mapped is None else [(mapped, Kind.PORTMAPPED)]
    found += [(addr, Kind.STUN) for addr in report.seen]
    if report.hard_nat and ports.v4 and fixed:
        by_hand = (AddrPort(a.ip, ports.v4) for a in report.seen if a.ip.version == 4)
        found += [(addr, Kind.STUN4_LOCAL_PORT) for addr in by_hand]
    tracker.update(found, now)
    found += tracker.known()
    found += [(addr, Kind.EXPLICIT) for addr in static]
    for ip in local:
        port = ports.v4 if ip.version == 4 else ports.v6
        if port:
            found.append((AddrPort(ip, port), Kind.LOCAL))
    kinds: dict[AddrPort, int] = {}
    for addr, kind in found:
        kinds.setdefault(addr, int(kind))
    return tuple(kinds.items())
