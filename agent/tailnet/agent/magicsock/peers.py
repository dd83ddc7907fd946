"""What the hub knows of peers, and what it tells."""

from collections.abc import Sequence
from enum import Enum, Flag, auto
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.datapath.interface import NO_PATH, Path
from tailnet.agent.keys import DiscoPublic, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.choice import Quality
from tailnet.agent.magicsock.path import PeerPath
from tailnet.agent.magicsock.plain import PlainPath
from tailnet.agent.wireguard.session import Source

MAX_SWITCHES = 16  # remembered per peer


class Policy(Enum):
    """Which ways to a peer the user allows; the value is what the user writes."""

    AUTO = "auto"
    DIRECT_ONLY = "direct-only"
    RELAY_ONLY = "relay-only"


class Relaying(Flag):
    """What a peer has to do with peer relays."""

    KNOWS = auto()  # it can use them
    SERVES = auto()  # it is one that we may ask
    ASKS = auto()  # it may ask us


NO_RELAYING = Relaying(0)


class PeerInfo(NamedTuple):
    """What control says of a peer.

    ``disco_key``: zero if it has none, then only the relay leads to it.  ``home_region``: 0 if
    unknown.  ``wireguard_only``: an ordinary WireGuard host: no disco, no relay.  ``policy`` is the
    user's, and says nothing to a WireGuard host.
    """

    node_key: NodePublic
    disco_key: DiscoPublic
    endpoints: Sequence[AddrPort]
    home_region: int
    wireguard_only: bool = False
    policy: Policy = Policy.AUTO
    relaying: Relaying = NO_RELAYING


class PathChanged(NamedTuple):
    """Send to ``peer`` so from now on; ``latency`` [s] of the path by UDP, if it is trusted."""

    peer: PeerId
    path: Path
    latency: float | None


class SetWake(NamedTuple):
    """The peer rests: call ``note_data_sent`` when data leaves for it."""

    peer: PeerId


class WantEndpoints(NamedTuple):
    """Own endpoints are too old to be told: find them, then call ``set_own_endpoints``."""


class PingDone(NamedTuple):
    """First pong for a user's ping."""

    ticket: int
    peer: PeerId
    latency: float
    via: Source


class WantLatency(NamedTuple):
    """Ping these addresses of a WireGuard-only peer by ICMP, then call ``note_latency``."""

    peer: PeerId
    addrs: tuple[AddrPort, ...]


Event = PathChanged | SetWake | WantEndpoints | WantLatency | PingDone


class PathStatus(NamedTuple):
    """A peer's path for people.

    ``cur`` is set only while the path by UDP is trusted; ``switches`` counts changes of the route.
    """

    cur: AddrPort | ViaAddr | None
    home_region: int
    latency: float | None
    active: bool
    candidates: tuple[AddrPort, ...]
    switches: int


class Switch(NamedTuple):
    """The route became ``path`` at ``at`` [s], because of ``why``."""

    at: float
    path: Path
    why: str


_RELAYED = Path(None, relay=True)


class Peer:
    """A peer's record; ``machine`` is made when it is needed first.

    Attributes:
        route: what the datapath was told last.
        learned_region: relay that last brought something from it, 0 if none.
        plain: the way to a WireGuard-only peer; ``None`` for all others.
        switches: changes of the route since the start.
        history: the latest of them, oldest first.
    """

    __slots__ = ("history", "info", "learned_region", "machine", "plain", "route", "switches")

    def __init__(self, info: PeerInfo) -> None:
        self.info = info
        self.machine: PeerPath | None = None
        self.route = NO_PATH
        self.learned_region = 0
        self.plain: PlainPath | None = None
        self.switches = 0
        self.history: tuple[Switch, ...] = ()

    @property
    def discoverable(self) -> bool:
        """Disco can lead to it."""
        return not self.info.wireguard_only and not self.info.disco_key.is_zero

    @property
    def direct(self) -> bool:
        """A direct path to it is looked for, and answered."""
        return self.info.policy is not Policy.RELAY_ONLY and self.discoverable

    @property
    def relayable(self) -> bool:
        """A peer relay may lead to it."""
        knows = Relaying.KNOWS in self.info.relaying
        return self.discoverable and self.info.policy is Policy.AUTO and knows

    @property
    def searching(self) -> bool:
        """Its path is wanted, and not direct."""
        return self.machine is not None and self.machine.active and not self.machine.settled

    def relay(self, home: int) -> RelayAddr | None:
        """The relay that leads to it: its home, else where it was heard, else ours."""
        if self.info.wireguard_only:
            return None
        region = self.info.home_region or self.learned_region or home
        return RelayAddr(region, self.info.node_key) if region else None

    def _may_relay(self, home: int) -> bool:
        info = self.info
        if info.policy is Policy.DIRECT_ONLY or info.wireguard_only:
            return False
        return bool(info.home_region or self.learned_region or home)

    def trusted(self) -> Quality | None:
        """The path by UDP, if it is enough alone."""
        machine = self.machine
        return machine.best if machine is not None and machine.trusted else None

    def wanted_route(self, home: int) -> Path:
        """Where its packets should go now."""
        if self.plain is not None:
            return Path(self.plain.best, relay=False)
        if self.machine is None:  # nearly all of a large network
            return _RELAYED if self._may_relay(home) else NO_PATH
        if (trusted := self.trusted()) is not None:
            return Path(trusted.addr, relay=False)
        best = self.machine.best
        return Path(None if best is None else best.addr, self._may_relay(home))

    def turn(self, home: int, now: float) -> bool:
        """Follow what is wanted; true if packets must go elsewhere."""
        route = self.wanted_route(home)
        if route == self.route:
            return False
        self.route = route
        if route.udp is None or self.machine is None:
            why = "the relay leads to it" if route.relay else "no way leads to it"
            if self.info.policy is not Policy.AUTO:
                why += f"; policy {self.info.policy.value}"
            elif self.machine is not None and self.switches:
                why = self.machine.chosen.why.value
        else:
            why = self.machine.chosen.why.value
        self.switches += 1
        self.history = (*self.history[1 - MAX_SWITCHES :], Switch(now, route, why))
        return True

    def status(self) -> PathStatus:
        """For people."""
        machine, trusted, plain = self.machine, self.trusted(), self.plain
        if plain is not None:
            return PathStatus(
                plain.best, 0, plain.latency, plain.active, plain.endpoints, self.switches
            )
        return PathStatus(
            cur=None if trusted is None else trusted.addr,
            home_region=self.info.home_region,
            latency=None if trusted is None else trusted.latency,
            active=machine is not None and machine.active,
            candidates=tuple(self.info.endpoints if machine is None else machine.candidates),
            switches=self.switches,
        )


class Index:
    """Finds peers by key.  Several may share a disco key, as shared nodes do."""

    def __init__(self) -> None:
        self.by_disco: dict[DiscoPublic, tuple[PeerId, ...]] = {}
        self.by_node: dict[NodePublic, PeerId] = {}

    def add(self, peer_id: PeerId, info: PeerInfo) -> None:
        """Enter a peer."""
        self.by_node[info.node_key] = peer_id
        if not info.disco_key.is_zero:
            sharing = self.by_disco.get(info.disco_key, ())
            self.by_disco[info.disco_key] = (*sharing, peer_id)

    def remove(self, peer_id: PeerId, info: PeerInfo) -> None:
        """Forget a peer entered with this ``info``."""
        if self.by_node.get(info.node_key) == peer_id:
            del self.by_node[info.node_key]
        sharing = self.by_disco.get(info.disco_key, ())
        if peer_id in sharing:
            left = tuple(other for other in sharing if other != peer_id)
            if left:
                self.by_disco[info.disco_key] = left
            else:
                del self.by_disco[info.disco_key]
