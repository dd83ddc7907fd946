"""The path to one peer.

Candidates are pinged in rounds; the best that answered becomes the direct path and is trusted for
6.5 s after each pong.  While packets leave for the peer, a heartbeat every 3 s renews the trust;
two lost pongs in a row end it, and traffic takes the relay as well until a pong comes again::

             first data                     pong for a candidate
      idle ────────────► active, relay ────────────────────────────► active, direct
       ▲                  rounds after  ◄────────────────────────────  heartbeat every 3 s
       │                  0, 1, 2, 4, 7,  trust lapsed (6.5 s), send
       └── 45 s no data ──┤ 12, 17 … s    refused, best removed
                          ◄─────────────  a peer that pings us is pinged back at once

Where no direct path is found within a second a peer relay is looked for.  Its path is kept and
trusted in the same way, but the search for a direct one goes on, which is always preferred.

Idle costs nothing: no timer is armed once the trust has lapsed.

Source: tailscale wgengine/magicsock/endpoint.go.
"""

from collections.abc import Callable, Sequence
from errno import EHOSTUNREACH, ENETDOWN, ENETUNREACH

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.disco.messages import TXID_LEN
from tailnet.agent.magicsock.actions import (
    Action,
    Answered,
    Idle,
    SeekRelay,
    SendCallMeMaybe,
    SendPing,
)
from tailnet.agent.magicsock.candidate import Candidate, Pong, usable
from tailnet.agent.magicsock.candidates import Candidates
from tailnet.agent.magicsock.choice import Quality, answered, best_answered
from tailnet.agent.magicsock.chosen import Chosen
from tailnet.agent.magicsock.doubt import Doubt, Due, Sign
from tailnet.agent.magicsock.elsewhere import FOLLOWED_FOR, Elsewhere
from tailnet.agent.magicsock.inflight import InFlight, Sent
from tailnet.agent.magicsock.search import Search
from tailnet.agent.magicsock.silence import Silence
from tailnet.agent.magicsock.why import Why

ACTIVE_TIMEOUT = 45.0  # seconds without data until the heartbeat stops
HEARTBEAT_INTERVAL = 3.0  # seconds
UNDER_WAY = 0.5  # seconds in which what left by DERP before a direct path was found may come
GOOD_ENOUGH = 0.005  # seconds of latency below which nothing better is looked for
SEEK_FLOOR, SEEK_UPGRADE, SEEK_LOST = 30.0, 60.0, 5.0  # seconds between searches for peer relays

_UNREACHABLE = frozenset({EHOSTUNREACH, ENETUNREACH, ENETDOWN})


class PeerPath:
    """Path machine of one peer.  After each call the owner takes everything from ``actions``.

    Attributes:
        actions: what to do, in order.
        candidates: addresses at which the peer may be.
        chosen: the path by UDP that is in use.
        sizes: of the IP packets that ask an address [bytes]; several find its MTU.
    """

    __slots__ = (
        "_doubt",
        "_elsewhere",
        "_heartbeat_at",
        "_last_sent",
        "_random_bytes",
        "_search",
        "_sent",
        "_silence",
        "actions",
        "candidates",
        "chosen",
        "sizes",
    )

    def __init__(self, random_bytes: Callable[[int], bytes], sizes: tuple[int, ...] = (0,)) -> None:
        self._random_bytes = random_bytes
        self.sizes = sizes
        self.actions: list[Action] = []
        self.chosen = Chosen()
        self.candidates = Candidates()
        self._sent = InFlight()
        self._last_sent = 0.0
        self._heartbeat_at: float | None = None
        self._search = Search()
        self._doubt = Doubt()
        self._silence = Silence()
        self._elsewhere = Elsewhere()

    @property
    def active(self) -> bool:
        """True while the heartbeat runs."""
        return self._heartbeat_at is not None

    @property
    def best(self) -> Quality | None:
        """The path by UDP, direct or through a peer relay, trusted or not."""
        return self.chosen.best

    @property
    def trusted(self) -> bool:
        """See :attr:`Chosen.trusted`."""
        return self.chosen.trusted

    @property
    def settled(self) -> bool:
        """See :attr:`Chosen.settled`."""
        return self.chosen.settled

    # --- inputs

    def set_endpoints(self, endpoints: Sequence[AddrPort], now: float) -> None:
        """Control's list of the peer's addresses; the best path stays unless it is gone."""
        self._lapse(now)
        self.candidates.claim(endpoints, now, Candidate.set_netmap)
        self._follow_claims()
        if self.active and not self.settled:
            self._round(now)

    def note_sent(self, now: float) -> None:
        """Something left for the peer that must arrive: data or a handshake."""
        self._lapse(now)
        self._last_sent = now
        if self._heartbeat_at is None:
            self._heartbeat_at = now + HEARTBEAT_INTERVAL
        self._silence.listen(now)
        if not self.settled and self._search.at is None:
            self._seek(now)

    def note_heard(self, src: AddrPort, now: float, txid: bytes = b"") -> bool:
        """The peer sent from ``src``: a ping, or (without ``txid``) WireGuard.

        While no direct path is trusted the address is pinged back: the peer has just opened its
        NAT for us there, and our last ping may have come before that.

        Returns:
            True if this very ping was seen before.
        """
        self._lapse(now)
        candidate = self.candidates.find(src, now) if usable(src) else None
        self._follow_claims()
        if candidate is None:
            return False
        seen = bool(txid) and candidate.heard_txid == txid
        candidate.heard_at = now
        if not txid:
            self._elsewhere.note(src, now)
            if self.settled and (found := answered(src, candidate, now - FOLLOWED_FOR)):
                self._credit(found, now)
        candidate.heard_txid = txid or candidate.heard_txid
        if not seen and self.active and not self.settled and candidate.may_return(now):
            candidate.returned_at = now
            self._ping(src, now)
        if not seen and self._begin_doubt(now, Sign.HINT if txid else Sign.SOURCE, src):
            self._ping(src, now)
        return seen

    def note_relayed(self, now: float) -> bool:
        """Something came from the peer by DERP, so it may have lost the path that we trust.

        Returns:
            Whether there is something to do.
        """
        if not self.settled or now - self.chosen.since < UNDER_WAY:
            return False
        return self._lapse(now) or self._begin_doubt(now, Sign.HINT)

    def _begin_doubt(self, now: float, sign: Sign, src: AddrPort | None = None) -> bool:
        """The peer, at ``src`` if known, may have moved; whether the path in use is asked now."""
        best = self.best
        if best is None or not self.settled or not self.active or best.addr == src:
            return False
        if self._doubt.begin(now, best.latency, sign):
            self._ping(best.addr, now)
            return True
        return False

    def handle_pong(
        self, txid: bytes, now: float, *, udp: bool, seen: AddrPort | None = None
    ) -> bool:
        """A pong came, from whatever address; ``udp`` is false through DERP.

        The address that was pinged gets the credit.

        Returns:
            False if none of our pings has this transaction id.
        """
        self._lapse(now)
        sent = self._sent.take(txid)
        if sent is None:
            return False
        latency = now - sent.at
        if udp and self.best is not None and sent.to == self.best.addr:
            self._doubt.answered(sent.at)
        if sent.ticket is not None:
            self._sent.settle(sent.ticket)
            self.actions.append(Answered(sent.ticket, latency, sent.to))
        if not udp:
            return True
        if isinstance(sent.to, ViaAddr):
            if self.best is not None and self.best.addr == sent.to:
                self._credit(self.best._replace(latency=latency), now)
        elif sent.to is not None and (candidate := self.candidates.get(sent.to)) is not None:
            candidate.answered(Pong(now, latency, seen), sent.size)
            self._credit(Quality(sent.to, latency, candidate.wire_mtu), now)
        return True

    def handle_relay(self, quality: Quality, now: float) -> None:
        """The peer answered through a peer relay."""
        self._lapse(now)
        best = self.best
        if best is not None and self.trusted and best.server == quality.server:
            self.chosen.best = None  # what a relay gave later replaces what it gave before
        self._credit(quality, now)

    def _credit(self, quality: Quality, now: float) -> None:
        """A path works: use it if it is the best, and trust it."""
        before = self.best
        if before and self.settled and self._elsewhere.leads_to(quality, before, now):
            self.chosen.move(quality, now, Why.FOLLOWED)
        elif not self.chosen.credit(quality, now):
            return
        if before is None or before.addr != quality.addr:
            self._doubt.clear()
        if quality.direct:
            self._search.end()

    def handle_call_me_maybe(self, endpoints: Sequence[AddrPort], now: float) -> None:
        """The peer has just pinged us and wants pings at ``endpoints``; never called back.

        A peer that calls again within a second is not followed at once: we are no amplifier.
        """
        self._lapse(now)
        self.candidates.claim(endpoints, now, Candidate.set_called)
        self._follow_claims()
        if self._search.follow(now):
            for candidate in self.candidates.values():
                if not candidate.present(now):  # else there is no NAT that another would open
                    candidate.pinged_at = None
        self._begin_doubt(now, Sign.HINT)
        self._round(now)

    def path_failed(self, dst: AddrPort | ViaAddr, errno: int, now: float) -> None:
        """The kernel refused to send to ``dst``: use the relay too, at once."""
        self._lapse(now)
        if self.best is None or self.best.addr != dst:
            return
        self.chosen.distrust(Why.REFUSED)
        if errno in _UNREACHABLE:
            self.chosen.drop(Why.REFUSED)
            if isinstance(dst, AddrPort) and (candidate := self.candidates.get(dst)) is not None:
                candidate.pongs = ()
        if self.active:
            self._seek(now)

    def ping(self, ticket: int, now: float, size: int, *, relay: bool = True) -> None:
        """A user asks: over the trusted path, or else over everything there is.

        ``relay``: that includes the relay.
        """
        self._lapse(now)
        self._last_sent = now
        if self._heartbeat_at is None:
            self._heartbeat_at = now + HEARTBEAT_INTERVAL
        if self.best is not None and self.trusted:
            self._ping(self.best.addr, now, ticket, size)
        else:
            self._seek(now, ticket, size)
            if relay:
                self._ping(None, now, ticket, size)

    def ping_relay(self, ticket: int, now: float, size: int) -> None:
        """A user asks, and direct paths are not wanted."""
        self._ping(None, now, ticket, size)

    def reset(self, now: float) -> None:
        """We are on another network: what was measured is void, candidates stay."""
        self.chosen.drop(Why.NETWORK)
        self._search.reset()
        self._sent.clear()
        self._doubt.clear()
        for candidate in self.candidates.values():
            candidate.forget_probes()
        if self.active:
            self._seek(now)

    def handle_timeout(
        self, now: float, last_data_sent: float, unheard_since: float | None = None
    ) -> None:
        """Expire what is due; the datapath's times of the last data, and of a silence [s]."""
        lapsed = self._lapse(now)
        latency = 0.0 if self.best is None else self.best.latency
        if self._silence.handle_timeout(now, last_data_sent, unheard_since, latency):
            self._begin_doubt(now, Sign.SILENCE)
        elif not self._silence.goes_on(unheard_since):
            self._doubt.heard()
        for sent in self._sent.expire(now):
            if self.best is None or self.best.addr != sent.to or self.trusted:
                continue
            if sent.size <= max(self.best.wire_mtu, self.sizes[0]):  # larger ones may never pass
                self.chosen.drop(Why.TIMED_OUT)
        due = self._doubt.handle_timeout(now)
        if due is Due.ASK and self.best is not None:
            self._ping(self.best.addr, now)
        elif due is Due.VERDICT:
            lapsed = self._leave(now) or lapsed
        if self._heartbeat_at is not None and now >= self._heartbeat_at:
            self._beat(now, last_data_sent)
        if self.active and not self.settled and (lapsed or self._search.due(now)):
            self._seek(now)

    def deadline(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]; ``None`` at rest."""
        times = (
            self._heartbeat_at,
            self.chosen.trusted_until,
            self._search.at,
            self._sent.deadline(),
            self._doubt.deadline(),
            self._silence.at if self.settled else None,
        )
        return min((t for t in times if t is not None), default=None)

    # --- inside

    def _lapse(self, now: float) -> bool:
        if not self.chosen.lapse(now):
            return False
        if self.active and self.best is not None and not self.best.direct:
            self.actions.append(SeekRelay(SEEK_LOST))
        return True

    def _leave(self, now: float) -> bool:
        """The path did not stand the test: use what answered meanwhile, or search; true if so."""
        if self.best is None or not self.settled:
            return False
        found = best_answered(self.candidates, self._doubt.began, self.best.addr)
        if found is None:
            self.chosen.distrust(Why.MOVED)
        else:
            self.chosen.move(found, now)
        return found is None

    def _beat(self, now: float, last_data_sent: float) -> None:
        self._last_sent = max(self._last_sent, last_data_sent)
        if now - self._last_sent > ACTIVE_TIMEOUT:
            self._heartbeat_at = None
            self._search.end()
            self.actions.append(Idle())
            return
        self._heartbeat_at = now + HEARTBEAT_INTERVAL
        if now - self._last_sent <= HEARTBEAT_INTERVAL:
            self._silence.listen(now)
        if self.best is not None:
            self._ping(self.best.addr, now)
            slow = self.best.latency > GOOD_ENOUGH
            if self.settled and slow and self._search.may_upgrade(now):
                self._round(now)
                self.actions.append(SendCallMeMaybe())

    def _seek(self, now: float, ticket: int | None = None, size: int = 0) -> None:
        """Ping every candidate and call the peer, and set the time of the next try."""
        if self._search.begin(now):
            self.actions.append(SeekRelay(SEEK_UPGRADE if self.trusted else SEEK_FLOOR))
        self._round(now, ticket, size)
        if self.best is not None and not self.best.direct and not self.trusted:
            self._ping(self.best.addr, now, ticket, size)
        self.actions.append(SendCallMeMaybe())

    def _round(self, now: float, ticket: int | None = None, size: int = 0) -> None:
        """Ping every candidate that is due; a ``ticket`` makes all of them due."""
        self._search.note_round(now)
        self.candidates.expire(now)
        self._follow_claims()
        for addr, candidate in self.candidates.items():
            if ticket is not None:
                self._ping(addr, now, ticket, size)
            elif candidate.may_ping(now):
                for each in self.sizes:
                    self._ping(addr, now, size=each)

    def _ping(
        self, to: AddrPort | ViaAddr | None, now: float, ticket: int | None = None, size: int = 0
    ) -> None:
        if isinstance(to, AddrPort) and (candidate := self.candidates.get(to)) is not None:
            candidate.pinged_at = now
        txid = self._random_bytes(TXID_LEN)
        self._sent.add(txid, Sent(to, now, ticket, size))
        self.actions.append(SendPing(to, txid, size))

    def _follow_claims(self) -> None:
        """Addresses may be gone; a path leads only where somebody claims the peer to be."""
        if self.best is None or not isinstance(self.best.addr, AddrPort):
            return
        if self.best.addr not in self.candidates:
            self.chosen.drop(Why.WITHDRAWN)
