"""The way to a host of plain WireGuard: no disco, no relay, only addresses that control lists.

::

               data leaves            1 s, or 5 s after the host was last heard
      rest ─────────────► trusted ────────────────────────────────────────────► choose again
       ▲                     ▲    the quickest by ICMP, IPv6 first; any, if none      │
       │ 45 s without data   └──────────────────────── trusted for 1 s ◄──────────────┘
       └─────────────────────────────────────────────────────────────────────────────

Of several addresses each is pinged by ICMP, at most every 5 s, and only while a choice is open: a
host that is heard costs nothing.  Where the host itself sends from counts more than any choice.

Source: tailscale wgengine/magicsock/endpoint.go addrForWireGuardSendLocked.
"""

from collections.abc import Callable, Sequence

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.candidate import MAX_LISTED, usable

CHOICE_TRUST = 1.0  # seconds that a choice is kept
HEARD_TRUST = 5.0  # seconds that an address is kept after the host was heard
PING_INTERVAL = 5.0  # seconds at least between two rounds of ICMP
ACTIVE_TIMEOUT = 45.0  # seconds without data until nothing is done any longer


class PlainPath:
    """After each call the owner takes ``pings``, and tells the datapath of another ``best``.

    Attributes:
        endpoints: all addresses of the host.
        best: where packets go; ``None`` if there are no addresses.
        pings: addresses to be pinged by ICMP, once.
        active: data was sent lately.
    """

    __slots__ = (
        "_asked",
        "_asked_at",
        "_last_sent",
        "_latency",
        "_random_bytes",
        "_trusted_until",
        "active",
        "best",
        "endpoints",
        "pings",
    )

    def __init__(self, random_bytes: Callable[[int], bytes], endpoints: Sequence[AddrPort]) -> None:
        self._random_bytes = random_bytes
        self.endpoints: tuple[AddrPort, ...] = ()
        self.best: AddrPort | None = None
        self.pings: list[AddrPort] = []
        self.active = False
        self._latency: dict[AddrPort, float] = {}
        self._asked: set[AddrPort] = set()  # of the latest round, without an answer
        self._asked_at: float | None = None
        self._trusted_until = 0.0
        self._last_sent = 0.0
        self.set_endpoints(endpoints)

    @property
    def latency(self) -> float | None:
        """Of the way in use, by ICMP [s]."""
        return None if self.best is None else self._latency.get(self.best)

    def set_endpoints(self, endpoints: Sequence[AddrPort]) -> None:
        """Control's list; what is not on it is not used any longer."""
        self.endpoints = tuple(dict.fromkeys(filter(usable, endpoints[:MAX_LISTED])))
        self._latency = {a: s for a, s in self._latency.items() if a in self.endpoints}
        if self.best not in self.endpoints:
            self.best, self._trusted_until = self._pick(), 0.0

    def note_sent(self, now: float) -> None:
        """Data or a handshake leaves."""
        self._last_sent, self.active = now, True
        if now >= self._trusted_until:
            self._choose(now)

    def note_heard(self, src: AddrPort, now: float) -> None:
        """The host sent an authentic message from ``src``."""
        self.best, self._trusted_until = src, now + HEARD_TRUST

    def note_latency(self, addr: AddrPort, latency: float) -> None:
        """It answered by ICMP after ``latency`` seconds; the next choice minds it."""
        self._asked.discard(addr)
        if addr in self.endpoints:
            self._latency[addr] = latency

    def failed(self, addr: AddrPort, now: float) -> None:
        """The kernel refused to send there."""
        self._latency.pop(addr, None)
        if self.best == addr:
            self.best = self._pick(but=addr)
            self._trusted_until = now + CHOICE_TRUST

    def handle_timeout(self, now: float, last_sent: float, last_heard: float) -> bool:
        """Choose if that is due; ``last_…`` are the datapath's times [s].  True: it rests now."""
        if not self.active or now < self._trusted_until:
            return False
        self._last_sent = max(self._last_sent, last_sent)
        if now - self._last_sent > ACTIVE_TIMEOUT:
            self.active = False
            return True
        if last_heard and now - last_heard < HEARD_TRUST:
            self._trusted_until = last_heard + HEARD_TRUST
        else:
            self._choose(now)
        return False

    def deadline(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]; ``None`` at rest."""
        return self._trusted_until if self.active else None

    def _choose(self, now: float) -> None:
        self._ping(now)
        self.best, self._trusted_until = self._pick(), now + CHOICE_TRUST

    def _ping(self, now: float) -> None:
        """A round, if one is due; who let the last one pass is not counted on."""
        due = self._asked_at is None or now - self._asked_at >= PING_INTERVAL
        if len(self.endpoints) < 2 or not due:
            return
        for silent in self._asked:
            self._latency.pop(silent, None)
        self._asked, self._asked_at = set(self.endpoints), now
        self.pings = list(self.endpoints)

    def _pick(self, but: AddrPort | None = None) -> AddrPort | None:
        known = [a for a in self.endpoints if a in self._latency and a != but]
        if known:
            return min(known, key=lambda a: (self._latency[a], a.ip.version != 6))
        others = [a for a in self.endpoints if a != but] or self.endpoints
        if not others:
            return None
        return others[int.from_bytes(self._random_bytes(4), "big") % len(others)]
