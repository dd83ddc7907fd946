"""All peers of one private key: handshakes in, handshakes and sessions out.

The engine never sees transport messages.  Peers that were never spoken to are one entry in a
dictionary; only peers with a deadline are in the schedule.

Source: wireguard-go device/{device,peer,send,receive,indextable}.go.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic, PeerId
from tailnet.agent.noise.wireguard.interface import MakeHandshakes
from tailnet.agent.wireguard.constants import (
    INITIATION_FLOOR,
    REKEY_JITTER,
    UNDER_LOAD_AFTER,
    UNDER_LOAD_BACKLOG,
)
from tailnet.agent.wireguard.cookie import CookieChecker
from tailnet.agent.wireguard.events import (
    NO_STATUS,
    DiscardQueue,
    DropSession,
    Established,
    Event,
    InstallSession,
    PeerStatus,
    Reply,
    SendKeepalive,
    SetWake,
    SourceSeen,
    Transmit,
)
from tailnet.agent.wireguard.handshake import (
    answer,
    finish_untrusted,
    initiate,
    open_initiation_untrusted,
)
from tailnet.agent.wireguard.messages import (
    COOKIE_REPLY,
    INITIATION,
    encode_cookie_reply,
    handshake_type_untrusted,
    parse_cookie_reply_untrusted,
)
from tailnet.agent.wireguard.peer import Due, Peer
from tailnet.agent.wireguard.ratelimit import RateLimiter
from tailnet.agent.wireguard.schedule import Schedule
from tailnet.agent.wireguard.session import Activity, Session, Source, Wake
from tailnet.agent.wireguard.tai64n import stamp_after


class Engine:
    """WireGuard without its packets.

    Args:
        private: our static key.
        handshakes: what computes them, made anew for each key of ours.
        random_bytes: source of ephemeral keys, indices and jitter.
        activity: what happened with a peer's packets, as of now; asked only when a timer is due.
    """

    def __init__(
        self,
        private: NodePrivate,
        *,
        handshakes: MakeHandshakes,
        random_bytes: Callable[[int], bytes],
        activity: Callable[[PeerId], Activity],
    ) -> None:
        self._private = private
        self._public = public_of(private)
        self._make_handshakes = handshakes
        self._handshakes = handshakes(private)
        self._random_bytes = random_bytes
        self._activity = activity
        self._checker = CookieChecker(self._public, random_bytes)
        self._limiter = RateLimiter()
        self._loaded_until = 0.0
        self._last_stamp = b""
        self._keys: dict[PeerId, NodePublic] = {}
        self._ids: dict[NodePublic, PeerId] = {}
        self._peers: dict[PeerId, Peer] = {}  # those spoken to at least once
        self._index: dict[int, Peer] = {}  # of pending handshakes and of sessions
        self._schedule = Schedule()
        self._transmits: deque[Transmit | Reply] = deque()
        self._events: deque[Event] = deque()

    # configuration

    @property
    def public(self) -> NodePublic:
        """Our own key."""
        return self._public

    def set_private_key(self, private: NodePrivate, now: float) -> None:
        """Change our key: every session ends, handshakes under way start over at once."""
        if private == self._private:
            return
        self._private = private
        self._public = public_of(private)
        self._handshakes = self._make_handshakes(private)
        self._checker = CookieChecker(self._public, self._random_bytes)
        for peer in self._peers.values():
            self._forget(peer)
            peer.restart(now)
            self._reschedule(peer, now)

    def set_peers(self, peers: Mapping[PeerId, NodePublic], now: float) -> None:
        """All peers.  A key belongs to one peer, and never changes."""
        for gone in self._keys.keys() - peers.keys():
            self._remove(gone)
        for peer, key in peers.items():
            if self._keys.get(peer) != key:
                self._set_peer(peer, key)

    def change_peers(self, changed: Mapping[PeerId, NodePublic | None], now: float) -> None:
        """Only these; ``None`` removes one."""
        del now
        gone = [peer for peer, key in changed.items() if key is None and peer in self._keys]
        for peer in gone:
            self._remove(peer)
        for peer, key in changed.items():
            if key is not None and self._keys.get(peer) != key:
                self._set_peer(peer, key)

    def _set_peer(self, peer: PeerId, key: NodePublic) -> None:
        self._remove(peer)
        self._keys[peer] = key
        self._ids[key] = peer

    def note_backlog(self, waiting: int, now: float) -> None:
        """How many handshake messages wait to be handled; many mean load."""
        if waiting >= UNDER_LOAD_BACKLOG:
            self._loaded_until = now + UNDER_LOAD_AFTER

    # input

    def handle_handshake_untrusted(self, data: bytes, src: Source, now: float) -> None:
        """A message of type 1, 2 or 3.  Drain the outputs also when it was bad.

        Raises:
            BadPacket: not for us, damaged, replayed, too many; the text is one of a fixed set.
        """
        kind = handshake_type_untrusted(data)
        if kind == COOKIE_REPLY:
            self._take_cookie_untrusted(data, now)
            return
        self._admit_untrusted(data, src, now)
        if kind == INITIATION:
            peer = self._take_initiation_untrusted(data, now)
        else:
            peer = self._take_response_untrusted(data, now)
        self._events.append(SourceSeen(peer.id, src))
        self._schedule.set(peer.id, now)  # its timers are looked at when the answer has left

    def want_session(self, peer: PeerId, now: float, wall: datetime) -> None:
        """Packets wait for a session."""
        found = self._peer(peer)
        if found is None:
            return
        found.restart_attempts()
        if not found.trying:
            self._initiate(found, now, wall)
        self._check(found, now, wall)

    def note_restart(self, peer: PeerId, now: float) -> None:
        """Control says that the peer began anew: what its daemon of before was told is lost.

        Our next initiation need not wait for 5 s after the last one.  And the date that the peer
        says may be an earlier one, or a machine without a clock of its own, which begins with the
        date of its last shutdown, would be refused until that date is passed.  What an old
        initiation, sent again by somebody who heard it, costs is an answer: no session comes of it.
        Source: tailscale wgengine/userspace.go, discoChanged, which removes the peer and adds it.
        """
        if (found := self._peers.get(peer)) is not None:
            found.greatest = b""
            found.restart(now)
            self._reschedule(found, now)

    def handle_confirmed(self, peer: PeerId, local_index: int, now: float) -> None:
        """The data plane opened the first packet of a responder's session."""
        found = self._index.get(local_index)
        if found is None or found.id != peer:
            return
        session = next((s for s in found.pairs if s.local_index == local_index), None)
        gone = None if session is None else found.pairs.confirm(session)
        if gone is None:
            return
        self._drop(gone)
        found.established(now)
        self._events.append(Established(peer))
        self._schedule.set(peer, now)  # a check may initiate, which needs the wall clock

    def handle_wake(self, peer: PeerId, wake: Wake, now: float, wall: datetime) -> None:
        """The data plane saw what a ``SetWake`` asked for."""
        found = self._peers.get(peer)
        if found is not None:
            found.woke(wake)
            self._check(found, now, wall)

    def handle_timeout(self, now: float, wall: datetime) -> None:
        """Look at every peer whose deadline has come."""
        while (peer := self._schedule.pop(now)) is not None:
            self._check(self._peers[peer], now, wall)

    # output

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` has work [s]."""
        return self._schedule.next_timeout()

    def poll_transmit(self) -> Transmit | Reply | None:
        """Next message to send; after the events, so that sessions are in place first."""
        return self._transmits.popleft() if self._transmits else None

    def poll_event(self) -> Event | None:
        """Next wish."""
        return self._events.popleft() if self._events else None

    def status(self, peer: PeerId, now: float) -> PeerStatus:
        """How a peer stands."""
        found = self._peers.get(peer)
        return NO_STATUS if found is None else found.status(now)

    # messages

    def _admit_untrusted(self, data: bytes, src: Source, now: float) -> None:
        if not self._checker.has_mac1(data):
            msg = "wrong mac1"
            raise BadPacket(msg)
        if now >= self._loaded_until:
            return  # a mac2 is not looked at: the sender may hold a cookie of worse times
        if not self._checker.has_mac2(data, src, now):
            sender = int.from_bytes(data[4:8], "little")
            reply = self._checker.reply(data, sender, src, now)
            self._transmits.append(Reply(src, encode_cookie_reply(reply)))
            msg = "under load"
            raise BadPacket(msg)
        if not self._limiter.allow(src, now):
            msg = "over the rate limit"
            raise BadPacket(msg)

    def _take_initiation_untrusted(self, data: bytes, now: float) -> Peer:
        asked = open_initiation_untrusted(self._handshakes, data, self._random_bytes)
        peer_id = self._ids.get(asked.remote)
        peer = None if peer_id is None else self._peer(peer_id)
        if peer is None:
            msg = "unknown peer"
            raise BadPacket(msg)
        if asked.timestamp <= peer.greatest:
            msg = "replayed initiation"
            raise BadPacket(msg)
        if now - peer.asked_at <= INITIATION_FLOOR:
            msg = "initiations too fast"
            raise BadPacket(msg)
        session, head = answer(asked, self._new_index(), now)
        peer.greatest = asked.timestamp
        self._drop(peer.pairs.add_responder(session))
        self._install(peer, session)
        peer.answered(now)
        self._transmits.append(Transmit(peer.id, peer.cookies.add_macs(head, now)))
        return peer

    def _take_response_untrusted(self, data: bytes, now: float) -> Peer:
        peer = self._index.get(int.from_bytes(data[8:12], "little"))
        if peer is None or peer.pending is None:
            msg = "answers no pending handshake"
            raise BadPacket(msg)
        session = finish_untrusted(peer.pending, data, now)
        peer.pending = None
        self._drop(peer.pairs.add_initiator(session))
        self._install(peer, session)
        peer.established(now)
        self._events.append(Established(peer.id))
        return peer

    def _take_cookie_untrusted(self, data: bytes, now: float) -> None:
        reply = parse_cookie_reply_untrusted(data)
        peer = self._index.get(reply.receiver)
        if peer is None:
            msg = "cookie for no handshake"
            raise BadPacket(msg)
        peer.cookies.take_reply_untrusted(reply, now)

    # peers

    def _peer(self, peer: PeerId) -> Peer | None:
        """The peer's state, made when first needed; none for strangers and for ourselves."""
        found = self._peers.get(peer)
        if found is None:
            key = self._keys.get(peer)
            if key is None or key == self._public:
                return None
            found = self._peers[peer] = Peer(peer, key)
            found.jitter = self._jitter()
        return found

    def _check(self, peer: Peer, now: float, wall: datetime) -> None:
        due, wake = peer.check(now, self._activity(peer.id))
        if Due.ZERO in due:
            self._forget(peer)
        if Due.GIVE_UP in due:
            peer.gave_up(now)
            self._events.append(DiscardQueue(peer.id))
        if Due.INITIATE in due:
            self._initiate(peer, now, wall)
        if Due.KEEPALIVE in due:
            self._events.append(SendKeepalive(peer.id))
        if new := peer.arm(wake):
            self._events.append(SetWake(peer.id, new))
        self._reschedule(peer, now)

    def _initiate(self, peer: Peer, now: float, wall: datetime) -> None:
        if not peer.may_initiate(now):
            return
        self._drop_pending(peer)
        self._last_stamp = stamp_after(wall, self._last_stamp)
        try:
            peer.pending, head = initiate(
                self._handshakes,
                peer.remote,
                self._new_index(),
                self._last_stamp,
                self._random_bytes,
            )
        except BadPacket:  # no handshake can ever work with such a key
            peer.gave_up(now)
            self._events.append(DiscardQueue(peer.id))
            return
        self._index[peer.pending.index] = peer
        self._transmits.append(Transmit(peer.id, peer.cookies.add_macs(head, now)))
        peer.initiated(now, self._jitter())

    def _install(self, peer: Peer, session: Session) -> None:
        self._index[session.local_index] = peer
        self._events.append(InstallSession(peer.id, session))

    def _drop(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            del self._index[session.local_index]
            self._events.append(DropSession(session.local_index))

    def _drop_pending(self, peer: Peer) -> None:
        if peer.pending is not None:
            del self._index[peer.pending.index]
            peer.pending = None

    def _forget(self, peer: Peer) -> None:
        """Wipe every key; the greatest timestamp stays, or old initiations could be replayed."""
        self._drop_pending(peer)
        self._drop(peer.pairs.clear())
        peer.forgot()

    def _remove(self, peer: PeerId) -> None:
        key = self._keys.pop(peer, None)
        if key is not None and self._ids.get(key) == peer:
            del self._ids[key]
        found = self._peers.pop(peer, None)
        if found is not None:
            self._forget(found)
            self._schedule.set(peer, None)

    def _reschedule(self, peer: Peer, now: float) -> None:
        self._schedule.set(peer.id, peer.next_timeout(now))

    def _new_index(self) -> int:
        while True:
            index = int.from_bytes(self._random_bytes(4), "little")
            if index not in self._index:
                return index

    def _jitter(self) -> float:
        return int.from_bytes(self._random_bytes(4), "little") / (1 << 32) * REKEY_JITTER
