"""The guards: while one stands, nothing leaves this host but through the tunnel.

Two tables, apart from the rest, because they stay when the daemon dies.  What passes: the loopback
device, the tunnel, the packets of the daemon itself (they carry its mark, which needs CAP_NET_ADMIN
to set), DHCP and neighbour discovery, and the local networks if the user allows them.

The kill switch stands from boot on and knows no exception.  The guard of an exit node is for users
who want no more than that: routes and rules do the same and may be removed by anybody, so this is
the second wall.  It lets pass what stays on a link, what a bridge passes on between its ports, and
what an administrator's rules of his own lead around the tunnel.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import NamedTuple

from tailnet.platform.interface import Guard
from tailnet.platform.linux.constants import BYPASS_MARK, MARK_MASK
from tailnet.platform.linux.nft.syntax import (
    Chain,
    Counter,
    Destination,
    Family,
    Hook,
    HookPoint,
    Iif,
    Mark,
    Neighbours,
    Oif,
    Part,
    Prefix,
    Rule,
    Source,
    Table,
    UdpPort,
    Verdict,
    rule,
)
from tailnet.platform.linux.rules import Selector

TABLE = "tailnetd-guard"
EXIT_TABLE = "tailnetd-exit"
_PRIORITY = 10  # after everybody's filters: what they drop is not ours to count
_DHCP = ((67, 68), (547, 546))  # server and client ports, IPv4 and IPv6


# Never leaves a link, whatever it asks of routes.
_ON_LINK = tuple(map(ip_network, ("224.0.0.0/24", "255.255.255.255/32", "fe80::/10", "ff02::/16")))


class Around(NamedTuple):
    """What an exit node's guard lets pass.

    Attributes:
        near: the prefixes of the host's links, if they are reached directly.
        bridges: names of devices whose ports talk to each other; the kernel may show that to us.
        detours: of an administrator.
    """

    near: frozenset[Prefix] = frozenset()
    bridges: frozenset[str] = frozenset()
    detours: tuple[Selector, ...] = ()


def guard_table(tun: str, guard: Guard) -> Table:
    """The kill switch.  ``tun``: name of the tunnel's device."""
    near = _to(guard.local)
    return _table(TABLE, tun, near, near)


def exit_table(tun: str, around: Around) -> Table:
    """The guard of an exit node."""
    near = [*_to(around.near), *_to(_ON_LINK)]
    own = [r for s in around.detours if s.iif in {"", "lo"} for r in _detour(s._replace(iif=""))]
    others = [r for s in around.detours if s.iif != "lo" for r in _detour(s)]
    bridged = [rule(Iif(name), Oif(name), Verdict.ACCEPT) for name in sorted(around.bridges)]
    return _table(EXIT_TABLE, tun, [*near, *own], [*bridged, *near, *others])


def _table(name: str, tun: str, own: list[Rule], others: list[Rule]) -> Table:
    """Drops and counts all but what everybody needs, ``own`` and, forwarded, ``others``."""
    accept, drop = Verdict.ACCEPT, rule(Counter(), Verdict.DROP)
    out = [
        rule(Oif("lo"), accept),
        rule(Oif(tun), accept),
        rule(Mark(BYPASS_MARK, MARK_MASK), accept),
        *(rule(UdpPort(c, source=True), UdpPort(s), accept) for s, c in _DHCP),
        rule(Neighbours(), accept),
    ]
    forwarded = [rule(Oif(tun), accept), rule(Iif(tun), accept)]
    chains = (
        Chain("out", (*out, *own, drop), Hook(HookPoint.OUTPUT, _PRIORITY)),
        Chain("fwd", (*forwarded, *others, drop), Hook(HookPoint.FORWARD, _PRIORITY)),
    )
    return Table(Family.INET, name, chains)


def _to(prefixes: Iterable[Prefix]) -> list[Rule]:
    return [rule(Destination(p), Verdict.ACCEPT) for p in sorted(prefixes, key=_order)]


def _detour(selector: Selector) -> Iterator[Rule]:
    parts: list[Part] = []
    if selector.iif:
        parts.append(Iif(selector.iif))
    if selector.oif:
        parts.append(Oif(selector.oif))
    if selector.mask:
        parts.append(Mark(selector.mark, selector.mask))
    parts += [Source(selector.src)] if selector.src is not None else []
    parts += [Destination(selector.dst)] if selector.dst is not None else []
    if parts:
        yield rule(*parts, Verdict.ACCEPT)


def _order(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen
