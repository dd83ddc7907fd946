"""The records of all peers: who is who, who is awake, and where packets go.

Peers at rest cost a record and nothing else: no path machine, no timer.  A heap holds the deadlines
of those that are awake.

Source: tailscale wgengine/magicsock/{magicsock,peermap}.go.
"""

from collections import deque
from collections.abc import Callable, Mapping

from tailnet.agent.addr import AddrPort
from tailnet.agent.disco.messages import CallMeMaybe
from tailnet.agent.keys import DiscoPublic, PeerId, RelayAddr
from tailnet.agent.magicsock.actions import Answered, Idle, SeekRelay, SendCallMeMaybe, SendPing
from tailnet.agent.magicsock.deadlines import Deadlines
from tailnet.agent.magicsock.mail import Mail
from tailnet.agent.magicsock.own import OwnEndpoints
from tailnet.agent.magicsock.path import PeerPath
from tailnet.agent.magicsock.peers import (
    Event,
    Index,
    PathChanged,
    Peer,
    PeerInfo,
    PingDone,
    Policy,
    Relaying,
    SetWake,
    WantEndpoints,
    WantLatency,
)
from tailnet.agent.magicsock.plain import PlainPath

_ONLY_KNOWS = Relaying.KNOWS  # as nearly all peers


class Roster:
    """All peers.

    Attributes:
        peers: by id.
        index: by key.
        active: to which data is being sent.
        deadlines: of those with a path machine that waits.
        events: for whoever moves packets, oldest first.
        home: our home region, the last resort for peers without one; 0 if none.
        servers: peer relays that we may ask, with their disco keys.
        seek: looks for a peer relay to a peer; with the time, and how long not to look again [s].
        gone: hears of a peer that is no more, or has another disco key.
    """

    def __init__(
        self,
        mail: Mail,
        *,
        random_bytes: Callable[[int], bytes],
        direct: bool,
        sizes: tuple[int, ...],
    ) -> None:
        """``direct``, ``sizes``: see :class:`~tailnet.agent.magicsock.hub.Hub`."""
        self._mail = mail
        self._random_bytes = random_bytes
        self._direct = direct
        self._sizes = sizes
        self._own = OwnEndpoints()
        self.peers: dict[PeerId, Peer] = {}
        self.index = Index()
        self.active: dict[PeerId, None] = {}
        self.deadlines: Deadlines[PeerId] = Deadlines()
        self.events: deque[Event] = deque()
        self.home = 0
        self.servers: dict[PeerId, DiscoPublic] = {}
        self.seek: Callable[[PeerId, float, float], None] = lambda _peer, _now, _floor: None
        self.gone: Callable[[PeerId], None] = lambda _peer: None

    # --- wishes

    def set_home(self, region: int, now: float) -> None:
        """Our home region."""
        self.home = region
        for peer_id, peer in self.peers.items():
            if not peer.info.home_region:
                self.announce(peer_id, peer, now)

    def set_sizes(self, sizes: tuple[int, ...]) -> None:
        """See :class:`~tailnet.agent.magicsock.hub.Hub`."""
        self._sizes = sizes
        for peer in self.peers.values():
            if peer.machine is not None:
                peer.machine.sizes = sizes

    def set_own_endpoints(self, endpoints: tuple[AddrPort, ...], now: float) -> None:
        """Where we are, freshly measured; peers that wait for it are told."""
        searching = (p for p in self.active if self.peers[p].searching)
        for peer_id in self._own.set(endpoints, now, searching):
            self._call(peer_id, now)

    def set_peers(self, peers: Mapping[PeerId, PeerInfo], now: float) -> None:
        """All peers there are; only differences cost."""
        for peer_id in [p for p in self.peers if p not in peers]:
            self._drop(peer_id)
        for peer_id, info in peers.items():
            self._set_peer(peer_id, info, now)

    def change_peers(self, changed: Mapping[PeerId, PeerInfo | None], now: float) -> None:
        """Only these; ``None`` removes one."""
        for peer_id, info in changed.items():
            if info is None and peer_id in self.peers:
                self._drop(peer_id)
        for peer_id, info in changed.items():
            if info is not None:
                self._set_peer(peer_id, info, now)

    def reset(self, now: float) -> None:
        """The network changed: all paths are open again, and own endpoints are stale."""
        self._own.make_stale()
        for peer_id, peer in self.peers.items():
            if peer.machine is not None:
                peer.machine.reset(now)
                self.follow(peer_id, now)

    # --- what is

    def relay(self, peer_id: PeerId) -> RelayAddr | None:
        """The relay that leads to the peer: its home, else where it was heard, else ours."""
        peer = self.peers.get(peer_id)
        return None if peer is None else peer.relay(self.home)

    def machine(self, peer_id: PeerId, now: float, *, relayed: bool = False) -> PeerPath | None:
        """The peer's path machine, made at first need; ``None`` if no disco leads there.

        ``relayed``: it is also wanted where direct paths are not.
        """
        peer = self.peers.get(peer_id)
        if peer is None or not peer.discoverable or self._mail.node_key.is_zero:
            return None
        if not peer.direct and not relayed:
            return None
        if peer.machine is None:
            peer.machine = PeerPath(self._random_bytes, self._sizes)
            peer.machine.set_endpoints(peer.info.endpoints, now)
        return peer.machine

    # --- what happens

    def follow(self, peer_id: PeerId, now: float) -> None:
        """Carry out what a path machine wants, and follow its state."""
        peer = self.peers[peer_id]
        machine = peer.machine
        if machine is None:
            return
        actions, machine.actions = machine.actions, []
        for action in actions:
            match action:
                case SendPing():
                    self._send_ping(peer_id, action)
                case SendCallMeMaybe():
                    self._call(peer_id, now)
                case SeekRelay(floor):
                    self.seek(peer_id, now, floor)
                case Answered(ticket, latency, via):
                    if (relay := via or self.relay(peer_id)) is not None:
                        self.events.append(PingDone(ticket, peer_id, latency, relay))
                case Idle():
                    self.events.append(SetWake(peer_id))
        if machine.active:
            self.active[peer_id] = None
        else:
            self.active.pop(peer_id, None)
        self.deadlines.set(peer_id, machine.deadline())
        self.announce(peer_id, peer, now)

    def follow_plain(self, peer_id: PeerId, now: float) -> None:
        """The same for a host of plain WireGuard."""
        peer = self.peers[peer_id]
        if peer.plain is None:
            return
        if peer.plain.pings:
            self.events.append(WantLatency(peer_id, tuple(peer.plain.pings)))
            peer.plain.pings = []
        self.deadlines.set(peer_id, peer.plain.deadline())
        self.announce(peer_id, peer, now)

    def announce(self, peer_id: PeerId, peer: Peer, now: float) -> None:
        """Tell the datapath if packets must go elsewhere."""
        if peer.turn(self.home, now):
            trusted = peer.trusted()
            latency = None if trusted is None else trusted.latency
            self.events.append(PathChanged(peer_id, peer.route, latency))

    def _call(self, peer_id: PeerId, now: float) -> None:
        """Send a CallMeMaybe, and ask for endpoints if ours are old; another may follow then."""
        if not self._own.fresh(now):
            if self._own.wait(peer_id, now):
                self.events.append(WantEndpoints())
            if not self._own.of_this_network:
                return
        peer = self.peers.get(peer_id)
        relay = self.relay(peer_id)
        if peer is not None and relay is not None and self._own.known:
            self._mail.send(relay, peer.info.disco_key, CallMeMaybe(self._own.known))

    def _send_ping(self, peer_id: PeerId, ping: SendPing) -> None:
        dst = ping.to or self.relay(peer_id)
        if dst is not None:
            to = self.peers[peer_id].info.disco_key
            self._mail.send_ping(dst, to, ping.txid, ping.size)

    # --- records

    def _set_peer(self, peer_id: PeerId, info: PeerInfo, now: float) -> None:
        if not self._direct:
            info = info._replace(policy=Policy.RELAY_ONLY)
        peer = self.peers.get(peer_id)
        if peer is None:
            self.peers[peer_id] = peer = Peer(info)
            self._enter(peer_id, info)
            if info.wireguard_only:
                self._set_plain(peer)
            if peer.direct or peer.plain is not None:
                self.events.append(SetWake(peer_id))
            self.announce(peer_id, peer, now)
        elif peer.info is not info and peer.info != info:
            self._change(peer_id, peer, info, now)

    def _change(self, peer_id: PeerId, peer: Peer, info: PeerInfo, now: float) -> None:
        """A peer is described anew; a new disco key keeps the path it has."""
        old, was_direct = peer.info, peer.direct
        self._unindex(peer_id, old)
        self._enter(peer_id, info)
        peer.info = info
        if info.disco_key != old.disco_key:
            self.gone(peer_id)
        was_plain = peer.plain is not None
        self._set_plain(peer)
        if peer.plain is not None and not was_plain:
            self.events.append(SetWake(peer_id))
        if not peer.direct:
            peer.machine = None
            self.active.pop(peer_id, None)
            self.deadlines.set(peer_id, None if peer.plain is None else peer.plain.deadline())
        elif not was_direct:
            self.events.append(SetWake(peer_id))
        if peer.machine is not None:
            if info.endpoints != old.endpoints:
                peer.machine.set_endpoints(info.endpoints, now)
            self.follow(peer_id, now)
        else:
            self.announce(peer_id, peer, now)

    def _set_plain(self, peer: Peer) -> None:
        """Follow what control says of a WireGuard-only peer."""
        if not peer.info.wireguard_only:
            peer.plain = None
        elif peer.plain is None:
            peer.plain = PlainPath(self._random_bytes, peer.info.endpoints)
        else:
            peer.plain.set_endpoints(peer.info.endpoints)

    def _enter(self, peer_id: PeerId, info: PeerInfo) -> None:
        self.index.add(peer_id, info)
        if info.relaying is not _ONLY_KNOWS and Relaying.SERVES in info.relaying:
            self.servers[peer_id] = info.disco_key
        elif self.servers:
            self.servers.pop(peer_id, None)

    def _drop(self, peer_id: PeerId) -> None:
        self.servers.pop(peer_id, None)
        self.gone(peer_id)
        self._unindex(peer_id, self.peers.pop(peer_id).info)
        self.active.pop(peer_id, None)
        self._own.forget(peer_id)
        self.deadlines.set(peer_id, None)

    def _unindex(self, peer_id: PeerId, info: PeerInfo) -> None:
        self.index.remove(peer_id, info)
        if info.disco_key not in self.index.by_disco:
            self._mail.forget(info.disco_key)
