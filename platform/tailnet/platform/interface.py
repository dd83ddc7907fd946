"""The ports to the operating system, and their data.

Whole desired state, never deltas: applying the same configuration twice changes nothing, and
applying it over any residue of a crash ends in the same place.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from socket import socket
from typing import Protocol

MTU = 1280  # the tunnel's; the smallest that IPv6 allows


class PlatformError(OSError):
    """The system refused; ``str()`` is one line that says what and what to do."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()  # without the number, if there is one


class HostTakenError(PlatformError):
    """Another daemon has this host's routes; nothing was touched, and nothing is to be."""


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """Addresses and routes of the tunnel.

    Attributes:
        local_addrs: addresses of the device (/32 and /128).
        routes: prefixes that go into the tunnel.
        local_routes: prefixes that must not, although ``routes`` covers them.
        blocked: prefixes that go nowhere, unless one of the others has them.
        lan_direct: the prefixes of the host's other links are such, too, as they are at the time,
            where a route covers all of one (a part of one is somebody's explicit wish).
        leak_guard: what no route covers goes nowhere, even when the device and the daemon are gone;
            until ``down``, or until a configuration without.
    """

    local_addrs: frozenset[IPv4Interface | IPv6Interface] = frozenset()
    routes: frozenset[IPv4Network | IPv6Network] = frozenset()
    local_routes: frozenset[IPv4Network | IPv6Network] = frozenset()
    blocked: frozenset[IPv4Network | IPv6Network] = frozenset()
    lan_direct: bool = False
    leak_guard: bool = False


class NetfilterMode(IntEnum):
    """What the firewall does; the numbers are those of the prefs."""

    OFF = 0  # nothing: the administrator lets the tunnel through
    NODIVERT = 1  # chains that nothing jumps to: the administrator does
    ON = 2


@dataclass(frozen=True, slots=True)
class Guard:
    """Nothing leaves this host but through the tunnel, until somebody says otherwise.

    Attributes:
        local: prefixes reached directly nevertheless.
    """

    local: frozenset[IPv4Network | IPv6Network] = frozenset()


@dataclass(frozen=True, slots=True)
class ExitGuard:
    """Nothing leaves this host but through the tunnel, whatever becomes of routes and rules.

    For as long as an exit node is wanted: it ends with the daemon, unless that dies.

    Attributes:
        lan: the prefixes of the host's own links are reached directly nevertheless.
    """

    lan: bool = False


@dataclass(frozen=True, slots=True)
class FirewallConfig:
    """What the host's firewall should know of the tunnel.

    Attributes:
        mode: how much of it.
        addrs: our own addresses in the tailnet.
        ports: UDP ports of the tunnel's sockets.
        snat: hosts behind us see our address instead of the peer's.
        stateful: what hosts behind us send into the tunnel must answer something.
        cgnat_drop: nobody else uses 100.64.0.0/10, so what comes from there by another device lies.
        guard: it stands whatever the mode is, and outlives the daemon.
        exit_guard: only where the mode is ``ON``.
    """

    mode: NetfilterMode = NetfilterMode.ON
    addrs: frozenset[IPv4Address | IPv6Address] = frozenset()
    ports: frozenset[int] = frozenset()
    snat: bool = True
    stateful: bool = False
    cgnat_drop: bool = True
    guard: Guard | None = None
    exit_guard: ExitGuard | None = None


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """How the host resolves names.  Names are lower case without the final dot.

    Attributes:
        nameservers: whom to ask.
        search: domains to try for short names.
        match: only these domains and what is below them go to ``nameservers``, everything else as
            before; empty with nameservers: every name goes to them.
    """

    nameservers: tuple[IPv4Address | IPv6Address, ...] = ()
    search: tuple[str, ...] = ()
    match: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people: ``asks 100.100.100.100 for all names, short ones in example.ts.net``."""
        if not self.nameservers:
            return "asks as before"
        more = f" and {len(self.match) - 4} more" if self.match[4:] else ""
        for_ = f"names of {', '.join(self.match[:4])}{more}" if self.match else "all names"
        short = f", short ones in {', '.join(self.search)}" if self.search else ""
        return f"asks {', '.join(map(str, self.nameservers))} for {for_}{short}"


NO_DNS = DnsConfig()  # leave the host as it was before us


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """A device of the host.

    Attributes:
        name: as the system calls it.
        up: it carries packets.
        addrs: with the prefix of the link.
    """

    name: str
    up: bool
    addrs: frozenset[IPv4Interface | IPv6Interface] = frozenset()


@dataclass(frozen=True, slots=True)
class NetworkState:
    """The host's network without the tunnel.

    Attributes:
        interfaces: by name; the tunnel is none of them.
        default_v4, default_v6: device that leads out, empty if none does.
    """

    interfaces: Mapping[str, NetworkInterface] = field(default_factory=dict)
    default_v4: str = ""
    default_v6: str = ""

    @property
    def default(self) -> str:
        """The device of the default route, of IPv4 where there are two."""
        return self.default_v4 or self.default_v6

    @property
    def connected(self) -> bool:
        """Some device that is up has an address that packets from elsewhere may be sent to."""
        return any(
            interface.up
            and any(not (a.ip.is_loopback or a.ip.is_link_local) for a in interface.addrs)
            for interface in self.interfaces.values()
        )


class NetworkChange(Enum):
    """What became of the host's network."""

    FIRST = "first"  # nothing yet: this is how it is
    MINOR = "minor"  # measure again: some address or device is another
    MAJOR = "major"  # sockets and paths of before are worth nothing
    TUNNEL = "tunnel"  # somebody may have removed addresses, routes or rules of ours


@dataclass(frozen=True, slots=True)
class NetworkEvent:
    """A change, and why it counts.

    Attributes:
        change: what it means.
        state: the network from now on.
        reason: for people.
        slept: seconds that the host was away: suspended, or stopped as a virtual machine.
    """

    change: NetworkChange
    state: NetworkState
    reason: str
    slept: float = 0.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """The next hop of the IPv4 default route.

    Attributes:
        ip: its address.
        own: our address towards it.
    """

    ip: IPv4Address
    own: IPv4Address


class TunDevice(Protocol):
    """An open TUN device; it goes with its descriptor."""

    @property
    def name(self) -> str:
        """Interface name."""

    @property
    def mtu(self) -> int:
        """Bytes of IP per packet."""

    @property
    def vnet_hdr(self) -> bool:
        """Packets carry a header of 10 bytes and may be several of TCP joined, see the datapath."""

    @property
    def uso(self) -> bool:
        """UDP super-packets are on."""

    def detach(self) -> int:
        """Give the non-blocking descriptor away; the caller closes it."""

    def detach_more(self) -> tuple[int, ...]:
        """The same for further queues of the device."""

    def probe(self) -> bool:
        """Whether joined packets can be written; to be asked once the link is up."""

    def close(self) -> None:
        """Close the descriptor if it was not given away.  Idempotent."""


class Router(Protocol):
    """Links, addresses, routes and policy rules."""

    @property
    def obstacle(self) -> str:
        """What of others' comes before ours, for people; empty if nothing did at the last look."""

    async def up(self) -> None:
        """Remove residue, install the policy rules, set MTU, bring the link up."""

    async def apply(self, config: RouterConfig) -> None:
        """Make it so.  Collects errors, does everything it can, then raises the first."""

    async def down(self, *, leak_guard: bool = False) -> None:
        """Remove every address, route and rule that is ours.

        ``leak_guard``: what stops leaks stays, if it is there.
        """


class Firewall(Protocol):
    """Rules for the packets of the tunnel, and for those that must not avoid it."""

    @property
    def obstacle(self) -> str:
        """What of others' overrules ours, for people; empty if nothing did at the last look."""

    async def apply(self, config: FirewallConfig) -> None:
        """Make it so, whatever was there before of ours.

        Raises:
            PlatformError: refused; all is as before, or as wished but for what the text names.
        """

    async def intact(self) -> bool:
        """True if everything that the last ``apply`` made is still there.

        Raises:
            PlatformError: it cannot be known.
        """

    def disturbances(self) -> AsyncIterator[None]:
        """Somebody else changes rules.  For ever; closes with its task."""

    async def down(self, *, leak_guard: bool = False) -> None:
        """Remove everything that is ours, except the guard.  Idempotent.

        ``leak_guard``: the exit node's guard stays, too, if it is there.

        Raises:
            PlatformError: something could not be removed.
        """


class Bypass(Protocol):
    """Keeps the daemon's own sockets out of the tunnel."""

    @property
    def uses_mark(self) -> bool:
        """By a mark on their packets."""

    def mark(self, sock: socket) -> None:
        """Before bind or connect.  Does nothing where the system refuses and says so once."""


class Gateways(Protocol):
    """Knows the way out."""

    async def gateway(self) -> Gateway | None:
        """By which the daemon's own packets leave now; ``None``: by none, or over a plain link."""


class NetworkMonitor(Protocol):
    """Tells of changes of the host's network."""

    def events(self) -> AsyncIterator[NetworkEvent]:
        """How it is, then every change.  For ever, whatever fails; closes with its task."""


@dataclass(frozen=True, slots=True)
class DnsEvent:
    """Something about the host's DNS changed without us.

    Attributes:
        again: ``split`` and ``base`` may be others and what was applied may be lost: decide and
            apply again.
        trouble: what the user should know as long as it lasts, empty if nothing.
        overwritten: the same, of another program that undoes what we do.
        reason: what happened, for the log.
    """

    again: bool
    trouble: str = ""
    overwritten: str = ""
    reason: str = ""


class DnsConfigurator(Protocol):
    """How the host resolves names, changed for as long as we run."""

    async def up(self) -> None:
        """Take back what a dead daemon left, and find out how this host resolves names.

        Comes first, before anything needs names, and needs no tunnel.

        Raises:
            PlatformError: something could not be taken back.
        """

    def events(self) -> AsyncIterator[DnsEvent]:
        """From ``up`` on.  For ever; closes with its task."""

    @property
    def mode(self) -> str:
        """Which program of the host is configured, in the words of the logs."""

    @property
    def split(self) -> bool:
        """True if ``DnsConfig.match`` may be used."""

    async def base(self) -> DnsConfig | None:
        """What the host used before us, without our addresses; ``None``: it cannot be known.

        Raises:
            PlatformError: it exists and cannot be read.
        """

    async def programs_ask(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Whom programs of the host ask, without our addresses; empty if that is nobody else.

        Raises:
            PlatformError: it cannot be read.
        """

    async def apply(self, config: DnsConfig) -> None:
        """Make it so; :data:`NO_DNS` restores what was before.

        Raises:
            PlatformError: the host refused.
        """

    async def down(self) -> None:
        """As before us.  Idempotent, and safe over any residue of a crash."""
