"""All peers: who is who, disco in and out, and where their packets go.

Peers at rest cost a record and nothing else: no path machine, no timer.  A heap holds the deadlines
of those that are awake.

Source: tailscale wgengine/magicsock/{magicsock,peermap}.go.
"""

from collections import deque
from collections.abc import Callable, Mapping

from tailnet.agent.addr import DERP_MAGIC, AddrPort
from tailnet.agent.datapath.interface import NO_PATH, Path
from tailnet.agent.disco.messages import CallMeMaybe, Ping, Pong
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.actions import Answered, Idle, SendCallMeMaybe, SendPing
from tailnet.agent.magicsock.deadlines import Deadlines
from tailnet.agent.magicsock.mail import Mail, Transmit
from tailnet.agent.magicsock.own import OwnEndpoints
from tailnet.agent.magicsock.path import PeerPath
from tailnet.agent.magicsock.peers import (
    Event,
    Index,
    PathChanged,
    PathStatus,
    Peer,
    PeerInfo,
    PingDone,
    Policy,
    SetWake,
    WantEndpoints,
)
from tailnet.agent.magicsock.report import PathReport, report
from tailnet.agent.wireguard.session import Source

__all__ = [
    "Event",
    "Hub",
    "PathChanged",
    "PathStatus",
    "PeerInfo",
    "PingDone",
    "SetWake",
    "Transmit",
    "WantEndpoints",
]


class Hub:
    """Path discovery for every peer, without I/O.

    Args:
        disco: our disco key.
        random_bytes: source of randomness.
        direct: false to use relays only: direct paths are neither looked for nor answered.
        sizes: of the IP packets that ask an address for its MTU [bytes]; (0,) asks none.
    """

    def __init__(
        self,
        disco: DiscoPrivate,
        *,
        random_bytes: Callable[[int], bytes],
        direct: bool = True,
        sizes: tuple[int, ...] = (0,),
    ) -> None:
        self._mail = Mail(disco, random_bytes)
        self._random_bytes = random_bytes
        self._direct = direct
        self._sizes = sizes
        self._home = 0
        self._own = OwnEndpoints()
        self._peers: dict[PeerId, Peer] = {}
        self._index = Index()
        self._active: dict[PeerId, None] = {}
        self._deadlines: Deadlines[PeerId] = Deadlines()
        self._tickets = 0
        self._events: deque[Event] = deque()

    @property
    def public(self) -> DiscoPublic:
        """Our disco key, to be published."""
        return self._mail.public

    @property
    def drops(self) -> Mapping[str, int]:
        """Disco datagrams ignored, by reason."""
        return self._mail.drops

    @property
    def active_peers(self) -> int:
        """How many peers data is being sent to."""
        return len(self._active)

    # --- wishes

    def set_node_key(self, key: NodePublic) -> None:
        """Our node key; zero when logged out, then disco is silent."""
        self._mail.node_key = key

    def set_home(self, region: int, now: float) -> None:
        """Our home region, the last resort for peers without one."""
        self._home = region
        for peer_id, peer in self._peers.items():
            if not peer.info.home_region:
                self._announce(peer_id, peer, now)

    def set_own_endpoints(self, endpoints: tuple[AddrPort, ...], now: float) -> None:
        """Where we are, freshly measured; peers that wait for it are told."""
        searching = (p for p in self._active if self._peers[p].searching)
        for peer_id in self._own.set(endpoints, now, searching):
            self._call(peer_id, now)

    def set_peers(self, peers: Mapping[PeerId, PeerInfo], now: float) -> None:
        """All peers there are; only differences cost."""
        for peer_id in [p for p in self._peers if p not in peers]:
            self._drop(peer_id)
        for peer_id, info in peers.items():
            self._set_peer(peer_id, info, now)

    def change_peers(self, changed: Mapping[PeerId, PeerInfo | None], now: float) -> None:
        """Only these; ``None`` removes one."""
        for peer_id, info in changed.items():
            if info is None and peer_id in self._peers:
                self._drop(peer_id)
        for peer_id, info in changed.items():
            if info is not None:
                self._set_peer(peer_id, info, now)

    def _set_peer(self, peer_id: PeerId, info: PeerInfo, now: float) -> None:
        if not self._direct:
            info = info._replace(policy=Policy.RELAY_ONLY)
        peer = self._peers.get(peer_id)
        if peer is None:
            self._peers[peer_id] = peer = Peer(info)
            self._index.add(peer_id, info)
            if peer.direct:
                self._events.append(SetWake(peer_id))
            self._announce(peer_id, peer, now)
        elif peer.info is not info and peer.info != info:
            self._change(peer_id, peer, info, now)

    def ping(self, peer: PeerId, now: float, size: int = 0) -> int:
        """Ping for a user; the first pong makes a :class:`PingDone` with this ticket.

        ``size``: bytes of the IP packet wanted; 0 is the smallest.
        """
        self._tickets += 1
        if (machine := self._machine(peer, now, relayed=True)) is not None:
            policy = self._peers[peer].info.policy
            if policy is Policy.RELAY_ONLY:
                machine.ping_relay(self._tickets, now, size)
            else:
                machine.ping(self._tickets, now, size, relay=policy is Policy.AUTO)
            self._after(peer, now)
        return self._tickets

    def reset(self, now: float) -> None:
        """The network changed: all paths are open again, and own endpoints are stale."""
        self._own.make_stale()
        for peer_id, peer in self._peers.items():
            if peer.machine is not None:
                peer.machine.reset(now)
                self._after(peer_id, now)

    # --- inputs

    def handle_disco_untrusted(self, data: bytes, src: Source, now: float) -> None:
        """A datagram that looks like disco; what is not from a peer only counts in ``drops``."""
        if self._mail.node_key.is_zero or (isinstance(src, AddrPort) and not self._direct):
            self._mail.drops["unwanted"] += 1
            return
        opened = self._mail.open_untrusted(data, self._index.by_disco)
        if opened is None:
            return
        sender, message = opened
        if isinstance(src, RelayAddr):
            self.note_relay(src, now)
        match message:
            case Ping():
                self._handle_ping(sender, message, src, now)
            case Pong():
                self._handle_pong(sender, message, src, now)
            case CallMeMaybe():
                self._handle_call(sender, message, src, now)
            case _:
                self._mail.drops["about relays"] += 1

    def note_data_sent(self, peer: PeerId, now: float) -> None:
        """Data or a handshake left for a peer."""
        if (machine := self._machine(peer, now)) is not None:
            machine.note_sent(now)
            self._after(peer, now)

    def note_source(self, peer: PeerId, src: AddrPort, now: float) -> None:
        """An authenticated WireGuard message came from ``src``, which is not the peer's path."""
        record = self._peers.get(peer)
        if record is not None and record.info.wireguard_only:
            record.fixed = src
            self._announce(peer, record, now)
        elif (machine := self._machine(peer, now)) is not None:
            machine.note_heard(src, now)
            self._after(peer, now)

    def note_relay(self, src: RelayAddr, now: float) -> None:
        """Something came from this node through this relay: a way back, if it has no home."""
        peer_id = self._index.by_node.get(src.key)
        if peer_id is None:
            return
        peer = self._peers[peer_id]
        if peer.learned_region != src.region:
            peer.learned_region = src.region
            self._announce(peer_id, peer, now)

    def path_failed(self, peer: PeerId, dst: AddrPort, errno: int, now: float) -> None:
        """The kernel refused to send to the peer's direct path."""
        record = self._peers.get(peer)
        if record is None:
            return
        if record.info.wireguard_only:
            record.next_fixed(dst)
            self._announce(peer, record, now)
        elif record.machine is not None:
            record.machine.path_failed(dst, errno, now)
            self._after(peer, now)

    def handle_timeout(self, now: float, last_data_sent: Callable[[PeerId], float]) -> None:
        """Run what is due; ``last_data_sent`` gives the datapath's time of a peer's last data."""
        for peer_id in self._deadlines.expire(now):
            machine = self._peers[peer_id].machine
            if machine is not None:
                machine.handle_timeout(now, last_data_sent(peer_id) if machine.active else 0.0)
                self._after(peer_id, now)

    # --- outputs

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send."""
        return self._mail.poll_transmit()

    def poll_event(self) -> Event | None:
        """Next thing to know."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        return self._deadlines.next_timeout()

    def route(self, peer: PeerId) -> Path:
        """Where packets to the peer go now."""
        record = self._peers.get(peer)
        return NO_PATH if record is None else record.route

    def relay(self, peer: PeerId) -> RelayAddr | None:
        """The relay that leads to the peer: its home, else where it was heard, else ours."""
        record = self._peers.get(peer)
        return None if record is None else record.relay(self._home)

    def status(self, peer: PeerId) -> PathStatus | None:
        """The peer's path for people; ``None`` for an unknown peer."""
        record = self._peers.get(peer)
        return None if record is None else record.status()

    def report(self, peer: PeerId) -> PathReport | None:
        """Why the peer's path is as it is; ``None`` for an unknown peer."""
        record = self._peers.get(peer)
        return None if record is None else report(record, self._home)

    # --- disco

    def _handle_ping(self, sender: DiscoPublic, ping: Ping, src: Source, now: float) -> None:
        if isinstance(src, RelayAddr):
            seen_at = AddrPort(DERP_MAGIC, src.region & 0xFFFF)
            self._mail.send(src, sender, Pong(ping.txid, seen_at))
            return
        seen = False
        wanted = [p for p in self._index.by_disco[sender] if self._peers[p].direct]
        for peer_id in wanted:
            if (machine := self._machine(peer_id, now)) is not None:
                seen = machine.note_heard(src, now, ping.txid) or seen
                self._after(peer_id, now)
        if seen or not wanted:
            self._mail.drops["duplicate" if seen else "unwanted"] += 1
        else:
            self._mail.send(src, sender, Pong(ping.txid, src))

    def _handle_pong(self, sender: DiscoPublic, pong: Pong, src: Source, now: float) -> None:
        """Peers may share a disco key: the pong belongs to the one that knows its transaction."""
        for peer_id in self._index.by_disco[sender]:
            machine = self._peers[peer_id].machine
            if machine is not None and machine.handle_pong(
                pong.txid, now, udp=isinstance(src, AddrPort)
            ):
                self._after(peer_id, now)
                return
        self._mail.drops["unknown pong"] += 1

    def _handle_call(self, sender: DiscoPublic, call: CallMeMaybe, src: Source, now: float) -> None:
        """Believed only through a relay, and only if stamped node key and disco key agree."""
        peer_id = self._index.by_node.get(src.key) if isinstance(src, RelayAddr) else None
        if peer_id is None or self._peers[peer_id].info.disco_key != sender:
            self._mail.drops["unbelievable call"] += 1
            return
        if (machine := self._machine(peer_id, now)) is not None:
            machine.handle_call_me_maybe(call.endpoints, now)
            self._after(peer_id, now)

    def _call(self, peer_id: PeerId, now: float) -> None:
        """Send a CallMeMaybe, after asking for endpoints if ours are old."""
        if not self._own.fresh(now):
            if self._own.wait(peer_id, now):
                self._events.append(WantEndpoints())
            return
        peer = self._peers.get(peer_id)
        relay = self.relay(peer_id)
        if peer is not None and relay is not None and self._own.known:
            self._mail.send(relay, peer.info.disco_key, CallMeMaybe(self._own.known))

    def _send_ping(self, peer_id: PeerId, ping: SendPing) -> None:
        dst = ping.to or self.relay(peer_id)
        if dst is not None:
            to = self._peers[peer_id].info.disco_key
            self._mail.send_ping(dst, to, ping.txid, ping.size)

    # --- peers

    def _machine(self, peer_id: PeerId, now: float, *, relayed: bool = False) -> PeerPath | None:
        """The peer's path machine, made at first need; ``None`` if no disco leads there.

        ``relayed``: it is also wanted where direct paths are not.
        """
        peer = self._peers.get(peer_id)
        if peer is None or not peer.discoverable or self._mail.node_key.is_zero:
            return None
        if not peer.direct and not relayed:
            return None
        if peer.machine is None:
            peer.machine = PeerPath(self._random_bytes, self._sizes)
            peer.machine.set_endpoints(peer.info.endpoints, now)
        return peer.machine

    def _after(self, peer_id: PeerId, now: float) -> None:
        """Carry out what a path machine wants, and follow its state."""
        peer = self._peers[peer_id]
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
                case Answered(ticket, latency, via):
                    if (relay := via or self.relay(peer_id)) is not None:
                        self._events.append(PingDone(ticket, peer_id, latency, relay))
                case Idle():
                    self._events.append(SetWake(peer_id))
        if machine.active:
            self._active[peer_id] = None
        else:
            self._active.pop(peer_id, None)
        self._deadlines.set(peer_id, machine.deadline())
        self._announce(peer_id, peer, now)

    def _announce(self, peer_id: PeerId, peer: Peer, now: float) -> None:
        """Tell the datapath if packets must go elsewhere."""
        if peer.turn(self._home, now):
            trusted = peer.trusted()
            latency = None if trusted is None else trusted.latency
            self._events.append(PathChanged(peer_id, peer.route, latency))

    def _unindex(self, peer_id: PeerId, info: PeerInfo) -> None:
        self._index.remove(peer_id, info)
        if info.disco_key not in self._index.by_disco:
            self._mail.forget(info.disco_key)

    def _drop(self, peer_id: PeerId) -> None:
        self._unindex(peer_id, self._peers.pop(peer_id).info)
        self._active.pop(peer_id, None)
        self._own.forget(peer_id)
        self._deadlines.set(peer_id, None)

    def _change(self, peer_id: PeerId, peer: Peer, info: PeerInfo, now: float) -> None:
        """A peer is described anew; a new disco key keeps the path it has."""
        old, was_direct = peer.info, peer.direct
        self._unindex(peer_id, old)
        self._index.add(peer_id, info)
        peer.info = info
        if info.endpoints != old.endpoints or info.wireguard_only != old.wireguard_only:
            peer.fixed = info.endpoints[0] if info.endpoints else None
        if not peer.direct:
            peer.machine = None
            self._active.pop(peer_id, None)
            self._deadlines.set(peer_id, None)
        elif not was_direct:
            self._events.append(SetWake(peer_id))
        if peer.machine is not None:
            if info.endpoints != old.endpoints:
                peer.machine.set_endpoints(info.endpoints, now)
            self._after(peer_id, now)
        else:
            self._announce(peer_id, peer, now)
