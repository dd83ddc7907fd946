"""Who is a peer relay for us, and for whom we may be one.

A rule of the packet filter that grants ``relay-target`` toward us makes its sources our relays; one
that grants ``relay`` toward us lets its sources ask us.

Source: tailscale ipn/ipnlocal/node_backend.go, PeerHasCap; wgengine/magicsock/magicsock.go,
updateRelayServersSet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.grants import granted
from tailnet.agent.filter.rules import parse_ranges
from tailnet.agent.magicsock.peers import NO_RELAYING, Relaying
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.node import Node

RELAY = "tailscale.com/cap/relay"
RELAY_TARGET = "tailscale.com/cap/relay-target"
NO_SERVER = "disable-relay-server"  # an attribute of this node
KNOWS_SINCE = 121  # capability version of nodes that can use peer relays

_ROLES = {RELAY: Relaying.ASKS, RELAY_TARGET: Relaying.SERVES}


class RelayServerWish(NamedTuple):
    """The relay that we are: on this port (0: any), also reached at these addresses."""

    port: int
    endpoints: tuple[AddrPort, ...] = ()


class _Grant(NamedTuple):
    """What one rule makes of its sources."""

    role: Relaying
    single: frozenset[tuple[int, int]]  # IP version and address
    ranges: tuple[tuple[int, int, int], ...]
    attributes: frozenset[str]

    def covers(self, node: Node) -> bool:
        if self.attributes and not self.attributes.isdisjoint(node.cap_map or {}):
            return True
        for ip in node.ips():
            number = int(ip)
            if (ip.version, number) in self.single:
                return True
            if any(v == ip.version and a <= number <= b for v, a, b in self.ranges):
                return True
        return False


@dataclass(frozen=True, slots=True)
class RelayRules:
    """The rules about relays that concern us, ready to be asked for each peer."""

    grants: tuple[_Grant, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[FilterRule], own: Iterable[IPAddress]) -> "RelayRules":
        """Of a packet filter; ``own`` are our addresses."""
        addresses = tuple(own)
        return cls(tuple(g for rule in rules if rule.cap_grant for g in _grants(rule, addresses)))

    def role(self, node: Node) -> Relaying:
        """Of a peer."""
        if node.cap < KNOWS_SINCE:
            return NO_RELAYING
        role = Relaying.KNOWS
        for grant in self.grants:
            if grant.covers(node):
                role |= grant.role
        return role


NO_RULES = RelayRules()


def _grants(rule: FilterRule, own: tuple[IPAddress, ...]) -> Iterable[_Grant]:
    names: set[str] = set()
    anyone = FilterRule(src_ips=("*",), cap_grant=rule.cap_grant)
    for ip in own:
        names |= granted((anyone,), ip, ip).keys() & _ROLES.keys()
    if not names:
        return
    ranges = []
    for text in rule.src_ips or ():
        if not text.startswith("cap:"):
            try:
                ranges += parse_ranges(text)
            except BadPacket:
                continue
    single = frozenset((v, a) for v, a, b in ranges if a == b)
    wide = tuple((v, a, b) for v, a, b in ranges if a != b)
    attributes = frozenset(s[4:] for s in rule.src_ips or () if s.startswith("cap:"))
    for name in sorted(names):
        yield _Grant(_ROLES[name], single, wide, attributes)
