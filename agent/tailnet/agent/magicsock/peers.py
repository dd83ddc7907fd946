"""What the hub knows of peers, and what it tells."""

from typing import TYPE_CHECKING, NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.interface import NO_PATH, Path
from tailnet.agent.keys import DiscoPublic, NodePublic, PeerId
from tailnet.agent.wireguard.session import Source

if TYPE_CHECKING:
    from tailnet.agent.magicsock.path import PeerPath


class PeerInfo(NamedTuple):
    """What control says of a peer.

    ``disco_key``: zero if it has none, then only the relay leads to it.  ``home_region``: 0 if
    unknown.  ``wireguard_only``: an ordinary WireGuard host: no disco, no relay.
    """

    node_key: NodePublic
    disco_key: DiscoPublic
    endpoints: tuple[AddrPort, ...]
    home_region: int
    wireguard_only: bool = False


class PathChanged(NamedTuple):
    """Send to ``peer`` so from now on; ``latency`` [s] of the direct path, if there is one."""

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


Event = PathChanged | SetWake | WantEndpoints | PingDone


class PathStatus(NamedTuple):
    """A peer's path for people.  ``cur`` is set only while the direct path is trusted."""

    cur: AddrPort | None
    home_region: int
    latency: float | None
    active: bool
    candidates: tuple[AddrPort, ...]


class Peer:
    """A peer's record; ``machine`` is made when it is needed first."""

    __slots__ = ("fixed", "info", "learned_region", "machine", "route")

    def __init__(self, info: PeerInfo) -> None:
        self.info = info
        self.machine: PeerPath | None = None
        self.route = NO_PATH
        self.learned_region = 0  # relay that brought something from a peer without a home
        self.fixed = info.endpoints[0] if info.endpoints else None  # WireGuard-only peers


class Index:
    """Finds peers by key.  Several may share a disco key, as shared nodes do."""

    def __init__(self) -> None:
        self.by_disco: dict[DiscoPublic, list[PeerId]] = {}
        self.by_node: dict[NodePublic, PeerId] = {}

    def add(self, peer_id: PeerId, info: PeerInfo) -> None:
        """Enter a peer."""
        self.by_node[info.node_key] = peer_id
        if not info.disco_key.is_zero:
            self.by_disco.setdefault(info.disco_key, []).append(peer_id)

    def remove(self, peer_id: PeerId, info: PeerInfo) -> None:
        """Forget a peer entered with this ``info``."""
        if self.by_node.get(info.node_key) == peer_id:
            del self.by_node[info.node_key]
        sharing = self.by_disco.get(info.disco_key, [])
        if peer_id in sharing:
            sharing.remove(peer_id)
            if not sharing:
                del self.by_disco[info.disco_key]
