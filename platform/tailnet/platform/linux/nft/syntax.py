"""Rules of nftables as values.  ``str()`` writes them as ``nft`` would.

Only what our rules need.  A mark is matched and set under a mask: other bits belong to others.

Source: the nft manual page; Linux include/uapi/linux/netfilter/nf_tables.h.
"""

from enum import Enum, IntEnum, IntFlag
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

Prefix = IPv4Network | IPv6Network


class Family(IntEnum):
    """Of a table: whose packets its chains see."""

    INET = 1  # both
    IPV4 = 2
    IPV6 = 10

    def __str__(self) -> str:
        return {Family.INET: "inet", Family.IPV4: "ip", Family.IPV6: "ip6"}[self]


class HookPoint(IntEnum):
    """Where packets meet a chain."""

    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


class Kind(Enum):
    """Type of a chain with a hook."""

    FILTER = "filter"
    NAT = "nat"
    ROUTE = "route"  # output only: packets whose mark changed are routed again


class Ct(IntFlag):
    """States of a connection; the bits are the kernel's."""

    ESTABLISHED = 2
    RELATED = 4
    NEW = 8
    UNTRACKED = 64

    def __str__(self) -> str:
        return ",".join(str(state.name).lower() for state in Ct if state in self)


# --- matches


class Iif(NamedTuple):
    """Came in by this device."""

    name: str

    def __str__(self) -> str:
        return f'iifname "{self.name}"'


class Oif(NamedTuple):
    """Leaves by this device."""

    name: str

    def __str__(self) -> str:
        return f'oifname "{self.name}"'


class Mark(NamedTuple):
    """The packet's mark has these bits under the mask."""

    value: int
    mask: int

    def __str__(self) -> str:
        return f"meta mark & {self.mask:#010x} == {self.value:#010x}"


class CtMark(NamedTuple):
    """The connection's mark has these bits under the mask."""

    value: int
    mask: int

    def __str__(self) -> str:
        return f"ct mark & {self.mask:#010x} == {self.value:#010x}"


class CtState(NamedTuple):
    """The connection is in one of these states, or in none of them."""

    states: Ct
    invert: bool = False

    def __str__(self) -> str:
        return f"ct state {'!= ' if self.invert else ''}{self.states}"


class UdpPort(NamedTuple):
    """UDP to, or from, this port."""

    port: int
    source: bool = False

    def __str__(self) -> str:
        return f"udp {'sport' if self.source else 'dport'} {self.port}"


class Source(NamedTuple):
    """From an address in the prefix."""

    prefix: Prefix

    def __str__(self) -> str:
        return f"{'ip' if self.prefix.version == 4 else 'ip6'} saddr {self.prefix}"


class Destination(NamedTuple):
    """To an address in the prefix."""

    prefix: Prefix

    def __str__(self) -> str:
        return f"{'ip' if self.prefix.version == 4 else 'ip6'} daddr {self.prefix}"


class ForThisHost(NamedTuple):
    """To an address of this host."""

    def __str__(self) -> str:
        return "fib daddr type local"


class Neighbours(NamedTuple):
    """What IPv6 needs to find routers and hosts of a link: ICMPv6 types 133 to 136."""

    def __str__(self) -> str:
        return "icmpv6 type 133-136"


# --- statements


def _merge(value: int, mask: int) -> str:
    """These bits under the mask; ``nft`` leaves bits that are set anyway in its mask."""
    return f"& {0xFFFFFFFF ^ mask | value:#010x} | {value:#010x}"


class SetMark(NamedTuple):
    """Give the packet these bits under the mask."""

    value: int
    mask: int

    def __str__(self) -> str:
        return f"meta mark set meta mark {_merge(self.value, self.mask)}"


class SetCtMark(NamedTuple):
    """Give the connection these bits under the mask."""

    value: int
    mask: int

    def __str__(self) -> str:
        return f"ct mark set ct mark {_merge(self.value, self.mask)}"


class Counter(NamedTuple):
    """Count packets and bytes."""

    def __str__(self) -> str:
        return "counter"


class Masquerade(NamedTuple):
    """Give it the address of the device it leaves by."""

    def __str__(self) -> str:
        return "masquerade"


class Verdict(Enum):
    """The end of a rule.  Numbers are the kernel's."""

    DROP = 0
    ACCEPT = 1
    RETURN = -5

    def __str__(self) -> str:
        return self.name.lower()


class Jump(NamedTuple):
    """Go on in another chain of the table; come back at its end."""

    chain: str

    def __str__(self) -> str:
        return f"jump {self.chain}"


Part = (
    Iif
    | Oif
    | Mark
    | CtMark
    | CtState
    | UdpPort
    | Source
    | Destination
    | ForThisHost
    | Neighbours
    | SetMark
    | SetCtMark
    | Counter
    | Masquerade
    | Verdict
    | Jump
)


class Rule(NamedTuple):
    """Matches, then statements; a packet that fails one match goes to the next rule."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.parts))


def rule(*parts: Part) -> Rule:
    """Short for :class:`Rule`."""
    return Rule(parts)


class Hook(NamedTuple):
    """Makes a chain meet packets.  Lower priorities come first."""

    point: HookPoint
    priority: int
    kind: Kind = Kind.FILTER

    def __str__(self) -> str:
        where = self.point.name.lower()
        return f"type {self.kind.value} hook {where} priority {self.priority}"


class Chain(NamedTuple):
    """Rules in order.  Without a hook it is met only by jumps."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None

    def __str__(self) -> str:
        lines = [*((str(self.hook),) if self.hook else ()), *map(str, self.rules)]
        return "\n".join([f"chain {self.name} {{", *(f"  {line}" for line in lines), "}"])


class Table(NamedTuple):
    """A table that is ours alone: it is replaced whole."""

    family: Family
    name: str
    chains: tuple[Chain, ...]

    def __str__(self) -> str:
        body = "\n".join(map(str, self.chains))
        inside = "\n".join(f"  {line}" for line in body.splitlines())
        return f"table {self.family} {self.name} {{\n{inside}\n}}"
