"""Policy rules and routes: what is wanted, what is there, and the requests between the two.

Pure: no sockets.  ``router.py`` reads the kernel, asks ``plan`` and carries the requests out.

What is ours is recognised without any memory of what was done before, so that any residue of a
crash is understood:

* a policy rule in the window [RULE_BASE, RULE_BASE + 100) with no selector besides the mark, that
  either carries protocol ``kernel`` or sits in one of the four places this program uses.  An
  administrator's rule in the gaps (``ip rule add to LAN pref 5260 lookup main``) is not ours;
* a route in table 52 with protocol 186; in the main table also bound to the tunnel device,
  because routing daemons use 186 there for BGP;
* an address on the tunnel device that is in the ranges of a tailnet.

Source: tailscale wgengine/router/osrouter/router_linux.go (baseIPRules, cidrDiff, delIPRules).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from itertools import chain
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from tailnet.platform.interface import RouterConfig
from tailnet.platform.linux.constants import BYPASS_MARK, MARK_MASK, ROUTE_TABLE, RULE_BASE

Prefix = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface

RULE_WINDOW = range(RULE_BASE, RULE_BASE + 100)
RULE_PROTOCOL = 2  # RTPROT_KERNEL: systemd-networkd leaves such rules alone (systemd#19106)
ROUTE_PROTOCOL = 186
TABLE_MAIN = 254
TABLE_DEFAULT = 253
TAILNET_RANGES: tuple[Prefix, ...] = (
    ip_network("100.64.0.0/10"),
    ip_network("fd7a:115c:a1e0::/48"),
)


class Selector(NamedTuple):
    """Which packets a rule is for.  What is ``None``, empty, or 0 as a mask, does not matter.

    Attributes:
        dst, src: where the packet goes to, and where it says that it comes from.
        mark, mask: bits of its mark.
        iif: device that it came in by; ``lo``: this host made it.
        oif: device that its socket is bound to.
    """

    dst: Prefix | None = None
    src: Prefix | None = None
    mark: int = 0
    mask: int = 0
    iif: str = ""
    oif: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy rule.

    Attributes:
        family: ``AF_INET`` or ``AF_INET6``.
        priority: lower is consulted first.
        table: where to look; None means ``unreachable``.
        mark: of the packets it is for; 0 with mask 0 for all.
        mask: bits of the mark that count.
        protocol: who made it.
        plain: it selects by nothing else and does nothing else.
        sweeping: it sends everything to its table, or everything but what has the mark.
        selects: what it sends to its table, if that is not everything and can be said.
    """

    family: int
    priority: int
    table: int | None
    mark: int = 0
    mask: int = 0
    protocol: int = RULE_PROTOCOL
    plain: bool = True
    sweeping: bool = field(default=False, compare=False)
    selects: Selector | None = field(default=None, compare=False)

    def __str__(self) -> str:
        but = "not " if self.sweeping and self.mask else ""
        who = f"{but}fwmark {self.mark:#x}/{self.mask:#x} " if self.mask else ""
        what = "unreachable" if self.table is None else f"lookup {self.table}"
        return f"{version_of(self.family)} rule {self.priority}: {who}{what}"


class Route(NamedTuple):
    """One route; of these there are tens of thousands.

    Attributes:
        dst: prefix without host bits.
        table: number of the routing table.
        oif: index of the device; None for a ``throw`` route, which ends the lookup in this table.
        metric: two routes may differ in this alone.
        protocol: who made it.
        blocks: what has no other route ends here: ``unreachable``, in place of ``throw``.
    """

    dst: Prefix
    table: int
    oif: int | None
    metric: int
    protocol: int = ROUTE_PROTOCOL
    blocks: bool = False

    @property
    def place(self) -> tuple[Prefix, int, int]:
        """Where only one route can be."""
        return self.dst, self.table, self.metric

    def __str__(self) -> str:
        kind = "unreachable " if self.blocks else "throw " if self.oif is None else ""
        return f"route {kind}{self.dst} table {self.table}"


class Verb(Enum):
    """What to do with an item; both are without effect where it is done already."""

    ADD = "add"
    DELETE = "remove"


class Request(NamedTuple):
    """One change."""

    verb: Verb
    item: Rule | Route | Interface

    def __str__(self) -> str:
        what = self.item if isinstance(self.item, Rule | Route) else f"address {self.item}"
        return f"{self.verb.value} {what}"


@dataclass(frozen=True, slots=True)
class State:
    """Rules, routes and addresses, wanted or present.  Order does not matter."""

    rules: frozenset[Rule] = frozenset()
    routes: frozenset[Route] = frozenset()
    addrs: frozenset[Interface] = frozenset()


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this kernel and device can do.

    Attributes:
        families: of these, addresses, routes and rules are set up; others are skipped silently.
        stoppable: packets of these can be kept from leaving by another way, even where the tunnel
            carries none of them.
        tables: policy rules and several routing tables exist.  Without, the routes go to the
            main table, and ``throw`` has no meaning there.
    """

    families: frozenset[int] = field(default_factory=lambda: frozenset({AF_INET, AF_INET6}))
    stoppable: frozenset[int] = field(default_factory=lambda: frozenset({AF_INET, AF_INET6}))
    tables: bool = True

    @property
    def table(self) -> int:
        """The routing table of the tunnel's routes."""
        return ROUTE_TABLE if self.tables else TABLE_MAIN


def version_of(family: int) -> str:
    """``IPv4`` or ``IPv6``."""
    return "IPv6" if family == AF_INET6 else "IPv4"


def family_of(item: Rule | Route | Interface | Prefix) -> int:
    """``AF_INET`` or ``AF_INET6``."""
    if isinstance(item, Rule):
        return item.family
    ip = item.dst if isinstance(item, Route) else item
    return AF_INET if ip.version == 4 else AF_INET6


def tunnel_route(dst: Prefix, table: int, oif: int | None) -> Route:
    """One of our routes, with the metric that the kernel gives to a route without one."""
    return Route(dst, table, oif, metric=0 if dst.version == 4 else 1024)


LEAK_GUARD = frozenset(
    Route(everything, ROUTE_TABLE, None, metric=1_000_000, blocks=True)
    for everything in (ip_network("0.0.0.0/0"), ip_network("::/0"))
)
"""They belong to no device, so they stay when it goes, and with it the routes before them."""


def policy_rules(family: int) -> frozenset[Rule]:
    """The four rules of one family.

    The daemon's own packets, which carry the bypass mark, use the tables of the host, and fail
    where these lead nowhere; everything else asks the tunnel's table first.
    """
    marked = [(10, TABLE_MAIN), (30, TABLE_DEFAULT), (50, None)]
    rules = {Rule(family, RULE_BASE + n, t, BYPASS_MARK, MARK_MASK) for n, t in marked}
    return frozenset(rules | {Rule(family, RULE_BASE + 70, ROUTE_TABLE)})


def is_our_rule(rule: Rule) -> bool:
    """Whether this program, any version of it, or the original agent made it.

    The mark does not count, so that a version with other marks can still clean up.
    """
    if rule.priority not in RULE_WINDOW or not rule.plain:
        return False
    places = {(r.priority, r.table) for r in policy_rules(rule.family)}
    return rule.protocol == RULE_PROTOCOL or (rule.priority, rule.table) in places


def obstacles(rules: Iterable[Rule]) -> list[Rule]:
    """Rules of others that come before ours and may take what is for peers."""
    last = RULE_BASE + 70
    found = [
        rule
        for rule in rules
        if rule.sweeping and 0 < rule.priority <= last and not is_our_rule(rule)
    ]
    return sorted(found, key=_by_priority)


def detours(rules: Iterable[Rule]) -> list[Selector]:
    """What an administrator's rules of his own lead around the tunnel, since they come before."""
    last = RULE_BASE + 70
    found = {
        rule.selects
        for rule in rules
        if rule.selects is not None and rule.priority < last and not is_our_rule(rule)
    }
    return sorted(found, key=str)


def also_hits(request: Rule, other: Rule) -> bool:
    """Whether a request to delete one rule could hit ``other`` instead.

    What a request leaves open, the kernel takes for "any": an interface, an address, and zero as a
    mark or protocol.  Source: Linux net/core/fib_rules.c rule_find.
    """
    return (
        (request.family, request.priority, request.table)
        == (other.family, other.priority, other.table)
        and (not request.mask or (request.mark, request.mask) == (other.mark, other.mask))
        and request.protocol in {0, other.protocol}
    )


def is_our_route(route: Route, oif: int | None) -> bool:
    """Whether this program made it.  ``oif``: the tunnel device, None where it is gone."""
    if route.protocol != ROUTE_PROTOCOL:
        return False
    return route.table == ROUTE_TABLE or (
        route.table == TABLE_MAIN and oif is not None and route.oif == oif
    )


def is_tailnet_address(addr: Interface) -> bool:
    """Whether it is in the ranges that tailnets number their nodes from."""
    return any(addr.version == r.version and addr.ip in r for r in TAILNET_RANGES)


def ours(state: State, oif: int | None, added: Iterable[Interface] = ()) -> State:
    """The part of what is there that is ours.

    A rule that cannot be deleted without risk to somebody else's is left out.

    Args:
        state: all rules, the routes of the tables in question, the addresses of the tunnel device.
        oif: index of the tunnel device; None where it is gone.
        added: addresses known to be ours although they are outside the ranges of a tailnet.
    """
    known = frozenset(added)
    rules = frozenset(filter(is_our_rule, state.rules))
    foreign = [r for r in state.rules - rules if r.priority in RULE_WINDOW]
    return State(
        frozenset(r for r in rules if not any(also_hits(r, f) for f in foreign)),
        frozenset(r for r in state.routes if is_our_route(r, oif)),
        frozenset(a for a in state.addrs if a in known or is_tailnet_address(a)),
    )


def covered(routes: frozenset[Prefix], links: Iterable[Prefix]) -> frozenset[Prefix]:
    """The ``links`` that packets would not reach any more, but for an exception.

    The ranges of the tailnet itself cover nothing: a link inside of them keeps its own addresses,
    and peers keep theirs.
    """
    wide = routes.difference(TAILNET_RANGES)
    return frozenset(
        link
        for link in links
        if any(link.supernet(new_prefix=n) in wide for n in range(link.prefixlen + 1))
    )


def desired(config: RouterConfig, oif: int, able: Abilities) -> State:
    """What ``config`` means on this kernel.

    A prefix in ``routes`` and ``local_routes`` is a ``throw`` route.
    """
    throws = config.local_routes if able.tables else frozenset()
    blocked = config.blocked.difference(config.routes, throws) if able.tables else frozenset()
    families, guard = able.families, frozenset[Route]()
    if config.leak_guard and able.tables:
        # a device without IPv6 must not be the way around the exit node
        families |= able.stoppable
        guard = frozenset(r for r in LEAK_GUARD if family_of(r) in families)
    rules = frozenset(r for f in families for r in policy_rules(f))
    through = config.routes - throws if throws else config.routes
    routes = chain(  # each is hashed once: there may be tens of thousands
        _tunnel_routes(throws, able, None),
        _tunnel_routes(through, able, oif),
        (route._replace(blocks=True) for route in _tunnel_routes(blocked, able, None)),
        guard,
    )
    return State(
        rules if able.tables else frozenset(),
        frozenset(routes),
        frozenset(a for a in config.local_addrs if family_of(a) in able.families),
    )


def _tunnel_routes(
    prefixes: frozenset[Prefix], able: Abilities, oif: int | None
) -> Iterator[Route]:
    """To those that the tunnel carries."""
    v4, v6 = AF_INET in able.families, AF_INET6 in able.families
    return (
        tunnel_route(dst, able.table, oif) for dst in prefixes if (v4 if dst.version == 4 else v6)
    )


def plan(want: State, have: State) -> list[Request]:
    """The requests that lead from ``have`` to ``want``, in an order that never opens a hole.

    Adds come before deletes: when the last IPv4 address of a device goes, the kernel drops the
    device's routes of that family.  Of the adds, the bypass rules come first, or the daemon's own
    packets would loop; ``throw`` routes come before the routes they are exceptions of, and leave
    after them.

    Args:
        want: from ``desired``.
        have: from ``ours``: everything in it that is not wanted is deleted.
    """
    add, delete = Verb.ADD, Verb.DELETE
    missing = want.routes - have.routes
    other = have.routes - want.routes
    taken = {r.place for r in want.routes} if other else ()  # adding there replaces what is there
    stale = {r for r in other if r.place not in taken}
    steps: list[tuple[Verb, list[Rule] | list[Route] | list[Interface]]] = [
        (add, sorted(want.rules - have.rules, key=_by_priority)),
        (add, sorted((r for r in missing if r.oif is None), key=_by_destination)),
        (add, sorted(want.addrs - have.addrs, key=str)),
        (add, sorted((r for r in missing if r.oif is not None), key=_by_destination)),
        (delete, sorted(have.addrs - want.addrs, key=str)),
        (delete, sorted((r for r in stale if r.oif is not None), key=_by_destination)),
        (delete, sorted((r for r in stale if r.oif is None), key=_by_destination)),
        (delete, sorted(have.rules - want.rules, key=_by_priority, reverse=True)),
    ]
    return [Request(verb, item) for verb, items in steps for item in items]


def _by_destination(route: Route) -> tuple[int, int, int, int, int]:
    net = route.dst
    return net.version, int(net.network_address), net.prefixlen, route.table, route.metric


def _by_priority(rule: Rule) -> tuple[int, int]:
    return rule.priority, rule.family
