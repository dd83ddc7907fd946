"""Filter rules of the map, compiled into ranges of integers.

The result is plain data, so that a native datapath can take it as it is: ``cap:`` sources are
resolved to addresses when the filter is compiled, not when a packet comes.

Source: tailscale wgengine/filter/tailcfg.go, MatchesFromFilterRules.
"""

import ipaddress
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress, parse_prefix
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.filter import FilterRule

log = logging.getLogger("tailnet.filter")

ICMP4, TCP, UDP, ICMP6, TSMP, SCTP = 1, 6, 17, 58, 99, 132
DEFAULT_PROTOS = frozenset({TCP, UDP, ICMP4, ICMP6})
MAX_PORT = 0xFFFF
PORTS_ONLY = 0  # a protocol in a rule that joins no addresses for ICMP; no packet has it

CapLookup = Callable[[str], Iterable[IPAddress]]
"""Own addresses of the peers that have a node capability."""

Range = tuple[int, int]  # inclusive addresses
_ALL = {4: (0, (1 << 32) - 1), 6: (0, (1 << 128) - 1)}


class Destination(NamedTuple):
    """Inclusive ranges of addresses and ports."""

    first: int
    last: int
    first_port: int
    last_port: int


class Match(NamedTuple):
    """One rule of one address family.

    ``sources`` are disjoint and ascending; ``destinations`` are in the order of the rule.
    """

    protos: frozenset[int]
    sources: tuple[Range, ...]
    destinations: tuple[Destination, ...]

    def has_source(self, src: int) -> bool:
        """True if ``src`` is in one of the sources."""
        i = bisect_right(self.sources, (src, _ALL[6][1] + 1))
        return i > 0 and src <= self.sources[i - 1][1]


class Filter(NamedTuple):
    """Compiled rules, by family: an allow-list, so the empty one denies everything new."""

    v4: tuple[Match, ...] = ()
    v6: tuple[Match, ...] = ()
    closed: bool = False  # by the user, not by the rules

    @staticmethod
    def shields_up() -> "Filter":
        """No rules: only replies pass."""
        return Filter(closed=True)

    def opened(self, ports: Iterable[AddrPort]) -> "Filter":
        """And new TCP from anybody to these, which judge by themselves."""
        rules: dict[int, tuple[Match, ...]] = {4: (), 6: ()}
        for ip, port in ports:
            to = Destination(int(ip), int(ip), port, port)
            protos, everybody = frozenset({TCP, PORTS_ONLY}), (_ALL[ip.version],)
            rules[ip.version] += (Match(protos, everybody, (to,)),)
        return self._replace(v4=self.v4 + rules[4], v6=self.v6 + rules[6])

    def allows(self, version: int, proto: int, src: int, dst: int, port: int) -> bool:
        """True if a rule lets a new TCP, UDP or SCTP flow in."""
        for match in self.v4 if version == 4 else self.v6:
            if proto in match.protos and match.has_source(src):
                for first, last, first_port, last_port in match.destinations:
                    if first <= dst <= last and first_port <= port <= last_port:
                        return True
        return False

    def allows_addresses(self, version: int, src: int, dst: int) -> bool:
        """True if a rule joins the addresses, whatever its protocols and ports (ICMP)."""
        return any(
            first <= dst <= last
            for match in (self.v4 if version == 4 else self.v6)
            if PORTS_ONLY not in match.protos and match.has_source(src)
            for first, last, _, _ in match.destinations
        )

    def allows_protocol(self, version: int, proto: int, src: int, dst: int) -> bool:
        """True if a rule lists a protocol without ports and leaves all ports open."""
        return any(
            first <= dst <= last and first_port == 0 and last_port == MAX_PORT
            for match in (self.v4 if version == 4 else self.v6)
            if proto in match.protos and match.has_source(src)
            for first, last, first_port, last_port in match.destinations
        )


def compile_filter(
    rules: Sequence[FilterRule] | None, cap_lookup: CapLookup | None = None
) -> Filter:
    """Compile the map's rules; ``None`` (no filter received) and ``[]`` deny everything.

    An entry that does not parse is skipped and logged.  Any use of the deprecated ``SrcBits`` or
    ``Bits`` denies everything, as upstream does.  ``cap_lookup`` resolves ``cap:`` sources; without
    it they match nothing.
    """
    v4: list[Match] = []
    v6: list[Match] = []
    for rule in rules or ():
        if _is_deprecated(rule):
            log.warning("packet filter refused: it uses deprecated prefix bits")
            return Filter()
        if not rule.dst_ports:
            continue
        protos = frozenset(p for p in rule.ip_proto or () if 0 < p <= 0xFF)
        if not rule.ip_proto:
            protos = DEFAULT_PROTOS
        sources = _sources(rule.src_ips or (), cap_lookup)
        destinations = _destinations(rule)
        for version, out in ((4, v4), (6, v6)):
            if protos and sources[version] and destinations[version]:
                merged = _merge(sources[version])
                out.append(Match(protos, merged, tuple(destinations[version])))
    return Filter(tuple(v4), tuple(v6))


def is_refused(rules: Sequence[FilterRule] | None) -> bool:
    """:func:`compile_filter` denies everything because it does not understand these."""
    return any(_is_deprecated(rule) for rule in rules or ())


def _is_deprecated(rule: FilterRule) -> bool:
    return bool(rule.src_bits) or any(d.bits is not None for d in rule.dst_ports or ())


def parse_ranges(text: str) -> list[tuple[int, int, int]]:
    """``*``, an address, a prefix or ``a-b`` as (version, first, last), ends included.

    Raises:
        BadPacket: anything else, also a prefix with host bits or a range that runs backwards.
    """
    if text == "*":
        return [(version, *ends) for version, ends in _ALL.items()]
    if "/" in text:
        net = parse_prefix(text)
        return [(net.version, int(net.network_address), int(net.broadcast_address))]
    first_text, dash, last_text = text.partition("-")
    try:
        first = ipaddress.ip_address(first_text)
        last = ipaddress.ip_address(last_text) if dash else first
    except ValueError:
        msg = "not an address"
        raise BadPacket(msg) from None
    if first.version != last.version or int(first) > int(last):
        msg = "not a range of addresses"
        raise BadPacket(msg)
    return [(first.version, int(first), int(last))]


def _sources(texts: Iterable[str], cap_lookup: CapLookup | None) -> dict[int, list[Range]]:
    out: dict[int, list[Range]] = {4: [], 6: []}
    for text in texts:
        if text.startswith("cap:"):
            for ip in cap_lookup(text[4:]) if cap_lookup else ():
                out[ip.version].append((int(ip), int(ip)))
            continue
        try:
            for version, first, last in parse_ranges(text):
                out[version].append((first, last))
        except BadPacket as error:
            log.debug("filter source %r skipped: %s", text, error)
    return out


def _destinations(rule: FilterRule) -> dict[int, list[Destination]]:
    out: dict[int, list[Destination]] = {4: [], 6: []}
    for entry in rule.dst_ports or ():
        first_port, last_port = entry.ports.first, entry.ports.last
        if not 0 <= first_port <= last_port <= MAX_PORT:
            log.debug("filter destination %r skipped: bad ports", entry.ip)
            continue
        try:
            for version, first, last in parse_ranges(entry.ip):
                out[version].append(Destination(first, last, first_port, last_port))
        except BadPacket as error:
            log.debug("filter destination %r skipped: %s", entry.ip, error)
    return out


def _merge(ranges: list[Range]) -> tuple[Range, ...]:
    """Disjoint and ascending, so that a lookup is a bisection."""
    out: list[Range] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return tuple(out)
