"""Path discovery for all peers: wishes and datagrams in, datagrams, paths and deadlines out."""

from collections.abc import Callable, Mapping

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.datapath.interface import NO_PATH, Path
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.candidates import Candidates
from tailnet.agent.magicsock.inbox import Inbox
from tailnet.agent.magicsock.mail import Mail, Transmit
from tailnet.agent.magicsock.peers import (
    Event,
    PathChanged,
    PathStatus,
    PeerInfo,
    PingDone,
    Policy,
    SetWake,
    WantEndpoints,
    WantLatency,
)
from tailnet.agent.magicsock.plain import PlainPath
from tailnet.agent.magicsock.report import PathReport, report
from tailnet.agent.magicsock.roster import Roster
from tailnet.agent.magicsock.via.desk import Allocate, Desk
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
    "WantLatency",
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
        self._roster = Roster(self._mail, random_bytes=random_bytes, direct=direct, sizes=sizes)
        self._desk = Desk(self._roster, self._mail, random_bytes)
        self._inbox = Inbox(self._roster, self._desk, self._mail, direct=direct)
        self._tickets = 0

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
        return len(self._roster.active)

    # --- wishes

    def set_disco_key(self, disco: DiscoPrivate) -> None:
        """Another disco key; paths stay until pings go unanswered."""
        self._mail.set_key(disco)

    def set_node_key(self, key: NodePublic) -> None:
        """Our node key; zero when logged out, then disco is silent."""
        self._mail.node_key = key

    def set_home(self, region: int, now: float) -> None:
        """Our home region, the last resort for peers without one."""
        self._roster.set_home(region, now)

    def set_own_endpoints(self, endpoints: tuple[AddrPort, ...], now: float) -> None:
        """Where we are, freshly measured; peers that wait for it are told."""
        self._roster.set_own_endpoints(endpoints, now)

    def set_peers(self, peers: Mapping[PeerId, PeerInfo], now: float) -> None:
        """All peers there are; only differences cost."""
        self._roster.set_peers(peers, now)

    def change_peers(self, changed: Mapping[PeerId, PeerInfo | None], now: float) -> None:
        """Only these; ``None`` removes one."""
        self._roster.change_peers(changed, now)

    def set_sizes(self, sizes: tuple[int, ...]) -> None:
        """Of the IP packets that ask an address for its MTU, from the next round on."""
        self._roster.set_sizes(sizes)

    def set_relaying(self, *, enabled: bool) -> None:
        """Whether peer relays are used."""
        self._desk.enabled = enabled

    def set_allocate(self, allocate: Allocate | None) -> None:
        """Our own peer relay, which gives sessions to whoever may ask; ``None`` if we are none."""
        self._desk.set_allocate(allocate)

    @property
    def relay_servers(self) -> Mapping[PeerId, DiscoPublic]:
        """Peer relays that we may ask."""
        return self._roster.servers

    def ping(self, peer: PeerId, now: float, size: int = 0) -> int:
        """Ping for a user; the first pong makes a :class:`PingDone` with this ticket.

        ``size``: bytes of the IP packet wanted; 0 is the smallest.
        """
        self._tickets += 1
        if (machine := self._roster.machine(peer, now, relayed=True)) is not None:
            policy = self._roster.peers[peer].info.policy
            if policy is Policy.RELAY_ONLY:
                machine.ping_relay(self._tickets, now, size)
            else:
                machine.ping(self._tickets, now, size, relay=policy is Policy.AUTO)
            self._roster.follow(peer, now)
        return self._tickets

    def reset(self, now: float) -> None:
        """The network changed: all paths are open again, and own endpoints are stale."""
        self._roster.reset(now)

    # --- inputs

    def handle_disco_untrusted(self, data: bytes, src: Source, now: float) -> None:
        """A datagram that looks like disco; what is not from a peer only counts in ``drops``."""
        self._inbox.handle_disco_untrusted(data, src, now)

    def note_data_sent(self, peer: PeerId, now: float) -> None:
        """Data or a handshake left for a peer."""
        if (plain := self._plain(peer)) is not None:
            plain.note_sent(now)
            self._roster.follow_plain(peer, now)
        elif (machine := self._roster.machine(peer, now)) is not None:
            machine.note_sent(now)
            self._roster.follow(peer, now)

    def begin(self, peer: PeerId, initiation: bytes, now: float) -> bool:
        """A handshake leaves for a peer: pings for its path take it along, at most ``MAX_ALONG``.

        False if there is a path already, or nothing is pinged just now.
        """
        self.note_data_sent(peer, now)
        candidates = self._candidates(peer)
        if candidates is None or self.route(peer).udp is not None:
            return False
        return self._mail.add(initiation, candidates.asked(now))

    def note_source(self, peer: PeerId, src: AddrPort, now: float) -> None:
        """An authenticated WireGuard message came from ``src``, which is not the peer's path."""
        if (plain := self._plain(peer)) is not None:
            plain.note_heard(src, now)
            self._roster.follow_plain(peer, now)
        elif (machine := self._roster.machine(peer, now)) is not None:
            machine.note_heard(src, now)
            self._roster.follow(peer, now)

    def note_relay(self, src: RelayAddr, now: float) -> None:
        """Something came from this node through this relay: a way back, and a sign of its path."""
        self._inbox.note_relay(src, now)

    def path_failed(self, peer: PeerId, dst: AddrPort | ViaAddr, errno: int, now: float) -> None:
        """The kernel refused to send to the peer's path by UDP."""
        record = self._roster.peers.get(peer)
        if record is None:
            return
        if record.plain is not None and isinstance(dst, AddrPort):
            record.plain.failed(dst, now)
            self._roster.follow_plain(peer, now)
        elif record.machine is not None:
            record.machine.path_failed(dst, errno, now)
            self._roster.follow(peer, now)

    def note_latency(self, peer: PeerId, addr: AddrPort, latency: float) -> None:
        """An address of a WireGuard-only peer answered by ICMP after ``latency`` seconds."""
        if (plain := self._plain(peer)) is not None:
            plain.note_latency(addr, latency)

    def _plain(self, peer: PeerId) -> PlainPath | None:
        record = self._roster.peers.get(peer)
        return None if record is None else record.plain

    def handle_timeout(
        self,
        now: float,
        last_data_sent: Callable[[PeerId], float],
        last_heard: Callable[[PeerId], float] = lambda _: 0.0,
        unheard_since: Callable[[PeerId], float | None] = lambda _: None,
    ) -> None:
        """Run what is due.

        All give the datapath's time of a peer [s]: when data was last sent, when anything was last
        heard, and since when nothing is although data was sent.
        """
        due = self._desk.next_timeout()
        if due is not None and now >= due:
            self._desk.handle_timeout(now)
        for peer_id in self._roster.deadlines.expire(now):
            record = self._roster.peers[peer_id]
            machine, plain = record.machine, record.plain
            if plain is not None:
                if plain.handle_timeout(now, last_data_sent(peer_id), last_heard(peer_id)):
                    self._roster.events.append(SetWake(peer_id))
                self._roster.follow_plain(peer_id, now)
            elif machine is not None:
                if machine.active:
                    machine.handle_timeout(now, last_data_sent(peer_id), unheard_since(peer_id))
                else:
                    machine.handle_timeout(now, 0.0)
                self._roster.follow(peer_id, now)

    # --- outputs

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send."""
        return self._mail.poll_transmit()

    def poll_event(self) -> Event | None:
        """Next thing to know."""
        return self._roster.events.popleft() if self._roster.events else None

    def take_events(self) -> list[Event]:
        """All that there is to know; a large network brings two for each peer."""
        events = list(self._roster.events)
        self._roster.events.clear()
        return events

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        times = self._roster.deadlines.next_timeout(), self._desk.next_timeout()
        return min((t for t in times if t is not None), default=None)

    def route(self, peer: PeerId) -> Path:
        """Where packets to the peer go now."""
        record = self._roster.peers.get(peer)
        return NO_PATH if record is None else record.route

    def present(self, peer: PeerId, now: float) -> list[AddrPort]:
        """Addresses that the peer was just heard from, at most ``MAX_BACK``."""
        candidates = self._candidates(peer)
        return [] if candidates is None else candidates.present(now)

    def may_send(self, node: NodePublic, datagrams: int) -> bool:
        """Whether a peer has this key; what a stranger sent counts in ``drops``."""
        known = node in self._roster.index.by_node
        if not known:
            self._mail.drops["unknown sender"] += datagrams
        return known

    def is_present(self, node: NodePublic, now: float) -> bool:
        """Whether the peer with this key was just heard from directly."""
        peer = self._roster.index.by_node.get(node)
        return peer is not None and bool(self.present(peer, now))

    def _candidates(self, peer: PeerId) -> Candidates | None:
        record = self._roster.peers.get(peer)
        machine = None if record is None else record.machine
        return None if machine is None else machine.candidates

    def relay(self, peer: PeerId) -> RelayAddr | None:
        """The relay that leads to the peer: its home, else where it was heard, else ours."""
        return self._roster.relay(peer)

    def status(self, peer: PeerId) -> PathStatus | None:
        """The peer's path for people; ``None`` for an unknown peer."""
        record = self._roster.peers.get(peer)
        return None if record is None else record.status()

    def report(self, peer: PeerId) -> PathReport | None:
        """Why the peer's path is as it is; ``None`` for an unknown peer."""
        record = self._roster.peers.get(peer)
        return None if record is None else report(record, self._roster.home)
