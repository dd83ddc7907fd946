"""The shell of the data plane: upcalls and timers in, tables and handshakes out."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath import tsmp
from tailnet.agent.datapath.copies import Copies
from tailnet.agent.datapath.interface import (
    Confirmed,
    Datapath,
    Disco,
    Failed,
    Handshake,
    NewSource,
    NoSession,
    PathFailed,
    PeerEntry,
    RelayOut,
    Stun,
    ToAgent,
    TunPort,
    UdpPort,
    Upcall,
    Wake,
    Woke,
)
from tailnet.agent.datapath.rejections import Rejections
from tailnet.agent.datapath.underlay import Underlay
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.wireguard.engine import Engine
from tailnet.agent.wireguard.events import (
    DiscardQueue,
    DropSession,
    Established,
    Event,
    InstallSession,
    PeerStatus,
    SendKeepalive,
    SetWake,
    SourceSeen,
    Transmit,
)
from tailnet.agent.wireguard.messages import INITIATION, TRANSPORT
from tailnet.agent.wireguard.session import Source

log = logging.getLogger("tailnet.datapath")

UPCALL_BATCH = 512  # handled in one turn of the event loop
MAX_SLEEP = 60.0  # seconds; the loop's clock stops in suspend, ours does not

_INITIATION, _TRANSPORT = (kind.to_bytes(4, "little") for kind in (INITIATION, TRANSPORT))


class Dataplane:
    """WireGuard engine, datapath and underlay as one thing.

    Args:
        datapath: moves the packets.
        engine: makes the sessions; its ``activity`` is ``datapath.activity``.
        underlay: knows the ways to peers.
        now: seconds, as ``clock.now``.
        wall: UTC time, as ``clock.wall``.
        to_agent: gets TSMP messages of peers.
        on_failed: gets the reason when the datapath died.
        on_established: gets peers that a session was made with.

    Attributes:
        dropped: handshake messages that were not accepted, by reason.
        rejections: flows of ours that peers do not let in.
    """

    def __init__(  # noqa: PLR0913 -- three parts and four ports
        self,
        datapath: Datapath,
        engine: Engine,
        underlay: Underlay,
        *,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        to_agent: Callable[[PeerId, tsmp.Message], None],
        on_failed: Callable[[str], None],
        on_established: Callable[[PeerId], None] = lambda _: None,
    ) -> None:
        self._datapath = datapath
        self._engine = engine
        self._underlay = underlay
        self._now = now
        self._wall = wall
        self._to_agent = to_agent
        self._on_failed = on_failed
        self._on_established = on_established
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._copies = Copies()
        self.dropped: Counter[str] = Counter()
        self.rejections = Rejections()

    # life

    def start(self, tun: TunPort, udp: Sequence[UdpPort]) -> None:
        """Take the descriptors and run on the current event loop."""
        self._loop = asyncio.get_running_loop()
        self._datapath.set_public_key(self._engine.public)
        self._datapath.start(tun, udp)
        self._loop.add_reader(self._datapath.event_fd(), self.catch_up)
        self.pump()

    def stop(self) -> None:
        """Stop, and close every descriptor taken.  Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        if self._loop is not None:
            self._loop.remove_reader(self._datapath.event_fd())
        if self._timer is not None:
            self._timer.cancel()
        self._datapath.stop()

    # configuration

    def set_udp(self, udp: Sequence[UdpPort]) -> None:
        """Replace the sockets after a rebind."""
        self._datapath.set_udp(udp)

    def set_private_key(self, private: NodePrivate) -> None:
        """Change our own key: all sessions end."""
        self._engine.set_private_key(private, self._now())
        self._datapath.set_public_key(self._engine.public)
        self.pump()

    def set_peers(self, peers: Mapping[PeerId, tuple[NodePublic, PeerEntry]]) -> None:
        """All peers, with their keys."""
        self._datapath.set_peers({peer: entry for peer, (_, entry) in peers.items()})
        self._engine.set_peers({peer: key for peer, (key, _) in peers.items()}, self._now())
        self.pump()

    def change_peers(self, changed: Mapping[PeerId, tuple[NodePublic, PeerEntry] | None]) -> None:
        """Only these; ``None`` removes one."""
        self._datapath.change_peers({peer: new and new[1] for peer, new in changed.items()})
        self._engine.change_peers(
            {peer: new and new[0] for peer, new in changed.items()}, self._now()
        )
        self.pump()

    # input

    def handle_relayed(self, src: RelayAddr, datagrams: Sequence[bytes]) -> None:
        """WireGuard messages that came through a relay, from a peer that the relay vouches for."""
        sealed = [data for data in datagrams if data[:4] == _TRANSPORT]
        if sealed:
            self._datapath.relay_in(sealed)
        if len(sealed) < len(datagrams):
            self._take_waiting()  # pings are answered before, so that pongs overtake the answer
            handshakes = [data for data in datagrams if data[:4] != _TRANSPORT]
            self._engine.note_backlog(len(handshakes), self._now())
            for data in handshakes:
                self._handshake_untrusted(src, data)
            self._take_waiting()  # and those that came meanwhile: an answer takes a millisecond
            self.pump()

    def note_restart(self, peer: PeerId) -> None:
        """See :meth:`Engine.note_restart`."""
        self._engine.note_restart(peer, self._now())

    def want_session(self, peer: PeerId) -> None:
        """Begin a handshake although no packet waits."""
        self._engine.want_session(peer, self._now(), self._wall())
        self.pump()

    def status(self, peer: PeerId) -> PeerStatus:
        """How a peer's sessions stand."""
        return self._engine.status(peer, self._now())

    def pump(self) -> None:
        """Do all that the engine wants, and set its timer."""
        # Whoever begins a handshake pings first: so the pong is there before the answer, and what
        # waits for a session leaves directly.  Whoever answers does that first, then pings that
        # came meanwhile get their pongs, and only then he pings by himself.
        asked: list[PeerId] = []
        while self._drain(asked):
            self._take_waiting()
        for peer in asked:
            self._underlay.note_data_sent(peer)
        self._arm()

    def _drain(self, asked: list[PeerId]) -> bool:
        """Do what the engine wants; true if a message left.

        ``asked`` gets the peers whose path is still to be asked for.
        """
        # Events first: the answer to a response of ours may be faster than we are, and finds its
        # session in place.
        while (event := self._engine.poll_event()) is not None:
            self._do(event)
        left = False
        while (out := self._engine.poll_transmit()) is not None:
            left = True
            if isinstance(out, Transmit):
                if out.datagram[:4] == _INITIATION:
                    self._underlay.begin(out.peer, out.datagram)
                else:
                    asked.append(out.peer)
                    self._underlay.send(out.peer, out.datagram)
            else:
                self._underlay.send_to(out.dst, out.datagram)
        if left:
            self._underlay.flush()
        return left

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._engine.next_timeout()
        if at is not None and self._loop is not None and not self._stopped:
            delay = min(max(0.0, at - self._now()), MAX_SLEEP)
            self._timer = self._loop.call_later(delay, self._timeout)

    def _timeout(self) -> None:
        self._engine.handle_timeout(self._now(), self._wall())
        self.pump()

    def catch_up(self) -> None:
        """Handle the upcalls that wait, and what follows from them."""
        self._take_waiting()
        self._underlay.flush()
        self.pump()

    def _take_waiting(self) -> None:
        if self._stopped:
            return
        upcalls = self._datapath.take_upcalls(UPCALL_BATCH)
        handshakes = sum(isinstance(upcall, Handshake) for upcall in upcalls)
        self._engine.note_backlog(handshakes, self._now())
        for upcall in upcalls:
            self._take(upcall)

    def _take(self, upcall: Upcall) -> None:  # noqa: C901 -- one line for each kind
        match upcall:
            case RelayOut(peer, datagrams):
                self._underlay.relay_out(peer, datagrams)
            case Disco(src, data):
                self._underlay.handle_disco(src, data)
            case Stun(src, data):
                self._underlay.handle_stun(src, data)
            case Handshake(src, data):
                self._handshake_untrusted(src, data)
            case NoSession(peer):
                self._engine.want_session(peer, self._now(), self._wall())
            case Confirmed(peer, local_index):
                self._engine.handle_confirmed(peer, local_index, self._now())
            case Woke(peer, wake):
                self._engine.handle_wake(peer, wake, self._now(), self._wall())
                if Wake.DATA_SENT in wake:
                    self._underlay.note_data_sent(peer)
            case NewSource(peer, src):
                self._underlay.note_source(peer, src)
            case PathFailed(peer, dst, errno):
                self._underlay.path_failed(peer, dst, errno)
            case ToAgent(peer, packet):
                self._tsmp_untrusted(peer, packet)
            case Failed(reason):
                self._on_failed(reason)

    def _do(self, event: Event) -> None:
        match event:
            case InstallSession(peer, session):
                if session.initiator and not self._underlay.is_direct(peer):
                    self._take_waiting()  # a pong: what waits for the session leaves by that path
                self._datapath.set_session(peer, session)
            case DropSession(local_index):
                self._datapath.drop_session(local_index)
            case SendKeepalive(peer):
                self._datapath.send_keepalive(peer)
            case SetWake(peer, wake):
                self._datapath.set_wake(peer, wake)
            case DiscardQueue(peer):
                log.debug("peer %d does not answer", peer)
                self._datapath.discard_queue(peer)
            case SourceSeen(peer, src):
                if isinstance(src, AddrPort):
                    self._underlay.note_source(peer, src)
            case Established(peer):
                log.debug("peer %d: new session", peer)
                self._on_established(peer)

    def _tsmp_untrusted(self, peer: PeerId, packet: bytes) -> None:
        """Note what a peer rejects; what cannot be read is for later versions to understand."""
        try:
            message = tsmp.parse_untrusted(packet)
        except BadPacket:
            return
        if isinstance(message, tsmp.Rejected):
            self.rejections.note(peer, message, self._now())
        self._to_agent(peer, message)

    def _handshake_untrusted(self, src: Source, data: bytes) -> None:
        """Hand a handshake message to the engine; a bad one, or a copy, is counted."""
        if data in self._copies:
            self.dropped["came already"] += 1
            return
        try:
            self._engine.handle_handshake_untrusted(data, src, self._now())
        except BadPacket as error:
            self.dropped[str(error)] += 1
        else:
            self._copies.note(data)
