"""One peer: its sessions, its handshake, and timers that ask instead of being told.

WireGuard's timers are defined by events of every packet.  Here nothing is called per packet: a
timer reads :class:`Activity` when it might be due, waits on if it is not, and goes to sleep behind
a one-shot :class:`Wake` when nothing moves::

    timer            due                                              does
    retransmit       5 s + jitter after an initiation, 18 times       initiate; then give up
    keepalive        10 s after unanswered data                       keepalive
    silence          15 s + jitter after unheard data                 initiate
    age, sending     anything sent on our session older than 120 s    initiate
    age, receiving   data received on our session older than 165 s    initiate, once a session
    zero             540 s after the last session                     forget all keys

A peer that sleeps has the last one only, once its session is old.  A look that finds nothing asks
for the wake and looks once more later, since a packet may pass between the look and the asking.

Source: wireguard-go device/timers.go, send.go keepKeyFreshSending, receive.go
keepKeyFreshReceiving.
"""

from enum import Flag, auto
from typing import TYPE_CHECKING

from tailnet.agent.keys import NodePublic, PeerId
from tailnet.agent.wireguard.constants import (
    KEEPALIVE_TIMEOUT,
    MAX_RETRIES,
    NEW_HANDSHAKE_TIMEOUT,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME,
    REKEY_ON_RECEIVE,
    REKEY_TIMEOUT,
    ZERO_TIMEOUT,
)
from tailnet.agent.wireguard.cookie import CookieGenerator
from tailnet.agent.wireguard.events import PeerState, PeerStatus
from tailnet.agent.wireguard.keypairs import Keypairs
from tailnet.agent.wireguard.session import NO_WAKE, Activity, Session, Wake

if TYPE_CHECKING:
    from tailnet.agent.wireguard.handshake import Pending

NEVER = float("-inf")


class Due(Flag):
    """What a look at a peer's timers found."""

    INITIATE = auto()
    KEEPALIVE = auto()
    GIVE_UP = auto()
    ZERO = auto()


NOTHING = Due(0)


class Peer:
    """State of one peer; the engine does what :meth:`check` says is due.

    Attributes:
        pairs: the sessions, as the data plane has them.
        pending: our unanswered initiation.  Independent of what we answer to the peer, so that two
            peers that start at once both succeed at once.
        greatest: timestamp of the peer's last accepted initiation; outlives the keys.
        asked_at: when that was [s].
        jitter: [0, 0.334) s, drawn by the engine for every initiation.
    """

    __slots__ = (
        "_armed",
        "_attempts",
        "_handshakes",
        "_heard_at",
        "_keepalive_at",
        "_last_handshake",
        "_looked_received",
        "_looked_sent",
        "_retransmit_at",
        "_sent_handshake_at",
        "_silence_at",
        "_zero_at",
        "asked_at",
        "cookies",
        "greatest",
        "id",
        "jitter",
        "pairs",
        "pending",
        "remote",
    )

    def __init__(self, peer: PeerId, remote: NodePublic) -> None:
        self.id = peer
        self.remote = remote
        self.pairs: Keypairs[Session] = Keypairs()
        self.cookies = CookieGenerator(remote)
        self.pending: Pending | None = None
        self.greatest = b""
        self.asked_at = NEVER
        self.jitter = 0.0
        self._attempts = 0
        self._sent_handshake_at = NEVER
        self._heard_at = NEVER  # last handshake message from the peer, or giving up
        self._last_handshake = 0.0
        self._handshakes = 0
        self._armed = NO_WAKE
        self._retransmit_at: float | None = None
        self._keepalive_at: float | None = None
        self._silence_at: float | None = None
        self._zero_at: float | None = None
        self._looked_sent = NEVER
        self._looked_received = NEVER

    # what happened

    @property
    def trying(self) -> bool:
        """A handshake of ours is under way."""
        return self._retransmit_at is not None

    def may_initiate(self, now: float) -> bool:
        """True if an initiation may leave; if not, it is put off until it may."""
        earliest = self._sent_handshake_at + REKEY_TIMEOUT
        if now >= earliest:
            return True
        self._retransmit_at = earliest + self.jitter
        return False

    def restart_attempts(self) -> None:
        """Something new to send: the next handshake gets its full number of attempts."""
        self._attempts = 0

    def initiated(self, now: float, jitter: float) -> None:
        """An initiation leaves."""
        self._sent_handshake_at = now
        self.jitter = jitter
        self._retransmit_at = now + REKEY_TIMEOUT + jitter

    def answered(self, now: float) -> None:
        """A response of ours leaves, with its session in ``next``."""
        self._sent_handshake_at = self._heard_at = self.asked_at = now
        self._zero_at = now + ZERO_TIMEOUT

    def established(self, now: float) -> None:
        """Both ends have a session."""
        self._retransmit_at = None
        self._attempts = 0
        self._handshakes += 1
        self._last_handshake = self._heard_at = now
        self._zero_at = now + ZERO_TIMEOUT

    def gave_up(self, now: float) -> None:
        """No answer to any attempt."""
        self._retransmit_at = None
        self._attempts = 0
        self._heard_at = now
        self._keepalive_at = None
        if self._zero_at is None:
            self._zero_at = now + ZERO_TIMEOUT

    def forgot(self) -> None:
        """All keys are gone, but a handshake under way goes on."""
        self._keepalive_at = self._silence_at = self._zero_at = None

    def restart(self, now: float) -> None:
        """We or the peer began anew: a handshake under way starts over at once."""
        self._sent_handshake_at = NEVER
        self._attempts = 0
        self._retransmit_at = now if self.trying else None

    def woke(self, wake: Wake) -> None:
        """The data plane reports a wake; it has to be asked for anew."""
        self._armed &= ~wake

    def arm(self, wake: Wake) -> Wake:
        """The part of ``wake`` that the data plane has not been asked for yet."""
        new = wake & ~self._armed
        self._armed |= new
        return new

    # timers

    def check(self, now: float, activity: Activity) -> tuple[Due, Wake]:
        """Look at every timer: what is due, and what must end the sleep that follows."""
        if self._zero_at is not None and now >= self._zero_at:
            return Due.ZERO, NO_WAKE
        due = self._check_retransmit(now)
        wake = NO_WAKE
        session = self.usable(now)
        if session is not None:
            for found, wanted in (
                self._check_keepalive(now, activity),
                self._check_silence(now, activity),
                self._check_age(now, activity, session),
            ):
                due |= found
                wake |= wanted
        return due, wake

    def next_timeout(self, now: float) -> float | None:
        """When :meth:`check` has something to find, unless a wake comes first."""
        times = [self._zero_at, self._retransmit_at]
        session = self.usable(now)
        if session is not None:
            times += [self._keepalive_at, None if self.trying else self._silence_at]
            if session.initiator and not self.trying:
                ages = (REKEY_AFTER_TIME, REKEY_ON_RECEIVE)
                times += [at for age in ages if (at := session.created + age) > now]
        return min((t for t in times if t is not None), default=None)

    def usable(self, now: float) -> Session | None:
        """The session that sends, if it is not too old."""
        session = self.pairs.current
        if session is None or now - session.created >= REJECT_AFTER_TIME:
            return None
        return session

    def status(self, now: float) -> PeerStatus:
        """For people."""
        if self.usable(now) is not None:
            state = PeerState.ESTABLISHED
        elif self.trying or self.pairs.next is not None:
            state = PeerState.HANDSHAKE
        else:
            state = PeerState.NONE if self.pairs.current is None else PeerState.EXPIRED
        return PeerStatus(self._last_handshake, state, self._handshakes)

    def _check_retransmit(self, now: float) -> Due:
        if self._retransmit_at is None or now < self._retransmit_at or not self.may_initiate(now):
            return NOTHING
        if self._attempts >= MAX_RETRIES:
            return Due.GIVE_UP
        self._attempts += 1
        return Due.INITIATE

    def _check_keepalive(self, now: float, activity: Activity) -> tuple[Due, Wake]:
        if not self._is_time(now, self._keepalive_at, Wake.DATA_RECEIVED):
            return NOTHING, NO_WAKE
        looked, self._looked_received = self._looked_received, now
        self._keepalive_at = now + KEEPALIVE_TIMEOUT
        since = activity.unanswered_since
        if since is not None:
            if now >= since + KEEPALIVE_TIMEOUT:
                return Due.KEEPALIVE, NO_WAKE
            self._keepalive_at = since + KEEPALIVE_TIMEOUT
        elif activity.last_data_received <= looked:
            if Wake.DATA_RECEIVED in self._armed:
                self._keepalive_at = None
            return NOTHING, Wake.DATA_RECEIVED
        return NOTHING, NO_WAKE

    def _check_silence(self, now: float, activity: Activity) -> tuple[Due, Wake]:
        if self.trying or not self._is_time(now, self._silence_at, Wake.DATA_SENT):
            return NOTHING, NO_WAKE
        looked, self._looked_sent = self._looked_sent, now
        timeout = NEW_HANDSHAKE_TIMEOUT + self.jitter
        self._silence_at = now + timeout
        since = activity.unheard_since
        if since is not None and activity.last_data_sent >= self._heard_at:
            at = max(since, self._heard_at) + timeout
            if now >= at:
                self._attempts = 0
                return Due.INITIATE, NO_WAKE
            self._silence_at = at
        elif activity.last_data_sent <= looked:
            if Wake.DATA_SENT in self._armed:
                self._silence_at = None
            return NOTHING, Wake.DATA_SENT
        return NOTHING, NO_WAKE

    def _check_age(self, now: float, activity: Activity, session: Session) -> tuple[Due, Wake]:
        if self.trying:
            return NOTHING, NO_WAKE
        due, wake = NOTHING, NO_WAKE
        if activity.send_counter > REKEY_AFTER_MESSAGES:
            due |= Due.INITIATE
        # Only who initiated a session renews it for its age, or both would at once.
        if session.initiator and now >= (old := session.created + REKEY_AFTER_TIME):
            if activity.last_sent >= old:
                due |= Due.INITIATE
            else:
                wake |= Wake.DATA_SENT
        # Once a session, since the session is over before such a handshake is given up.
        old = session.created + REKEY_ON_RECEIVE
        if session.initiator and now >= old:
            if activity.last_data_received >= old:
                due |= Due.INITIATE
            else:
                wake |= Wake.DATA_RECEIVED
        if due:
            self._attempts = 0
        return due, wake

    def _is_time(self, now: float, at: float | None, wake: Wake) -> bool:
        """True when a timer is due, and when it sleeps but its wake was used up."""
        return wake not in self._armed if at is None else now >= at
