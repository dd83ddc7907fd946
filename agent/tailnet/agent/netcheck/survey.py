"""When the network is measured, and what follows for our home.

Source: tailscale wgengine/magicsock/magicsock.go ReSTUN, periodicReSTUN; net/netcheck GetReport.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.netcheck.home import Home
from tailnet.agent.netcheck.measurement import (
    Addresses,
    Measurement,
    Wish,
)
from tailnet.agent.netcheck.plan import Last, Plan, make_plan, measurable
from tailnet.agent.netcheck.report import Report
from tailnet.agent.tailcfg.derpmap import DERPMap

STUN_PERIOD = 20.0, 26.0  # seconds, uniform; NATs forget after 30
RESOLVE_TIMEOUT = 3.0  # seconds for finding the servers' addresses
SILENT_PERIODS = 1.0, 2.0, 4.0, 8.0  # seconds, while an IP version that should work is silent
FULL_EVERY = 300.0  # seconds between measurements of all regions; others take the fastest


class Resolve(NamedTuple):
    """Find the STUN servers' addresses, then call :meth:`Survey.begin` with ``turn``."""

    turn: int
    plan: Plan


class Measured(NamedTuple):
    """A measurement that began at ``started`` [s] is done: choose the home, tell where we are."""

    report: Report
    started: float


class Wanted(NamedTuple):
    """The measurement ``turn`` wants to know something that UDP cannot tell."""

    turn: int
    wish: Wish
    derp_map: DERPMap


class Survey:
    """One measurement at a time; a wish during one starts exactly one more.

    Nothing is measured before there is a map of relays, nor while nobody needs it.
    """

    def __init__(
        self,
        *,
        random_bytes: Callable[[int], bytes],
        versions: Callable[[], frozenset[int]],
    ) -> None:
        """``versions``: of IP that this machine has addresses of, now."""
        self._random_bytes = random_bytes
        self._versions = versions
        self._map: DERPMap | None = None
        self._home = Home(int.from_bytes(random_bytes(4), "big"))
        self._last: Report | None = None
        self._running: Measurement | None = None
        self._turn = 0
        self._started = 0.0
        self._plan: Plan = {}
        self._full = False
        self._resolving_until: float | None = None
        self._again = False
        self._full_at: float | None = None
        self._next_at: float | None = None
        self._only_https = False
        self._silences = 0  # measurements in turn in which an IP version was silent
        self._events: deque[Resolve | Measured | Wanted] = deque()

    @property
    def home(self) -> int:
        """Our home region, 0 if none."""
        return self._home.region

    @property
    def busy(self) -> bool:
        """A measurement runs."""
        return self._running is not None or self._resolving_until is not None

    # --- wishes

    def set_map(self, derp_map: DERPMap, now: float) -> None:
        """Other relays are measured at once, all of them."""
        if derp_map != self._map:
            self._map = derp_map
            self.measure(now, full=True)

    def measure(self, now: float, *, afresh: bool = False, full: bool = False) -> None:
        """Measure now, all regions if ``full``.

        ``afresh`` drops what runs and what is known, because the network is another one.
        """
        if afresh:
            self._running = self._resolving_until = self._last = None
            self._silences = 0
        if afresh or full:
            self._full_at = None
        if self._map is None:
            return
        if self.busy:
            self._again = True
            return
        last = self._last
        behind_portal = last is not None and last.portal is True and not last.udp
        self._full = (
            self._full_at is None
            or now - self._full_at >= FULL_EVERY
            or last is None
            or behind_portal
        )
        known: Last | None = None
        if not self._full and last is not None and last.latency:
            known = Last(self._home.latencies(), last.versions)
        if self._full:
            self._full_at = now
        versions = frozenset() if self._only_https else self._versions()
        self._plan = make_plan(self._map, versions, known, self.home)
        self._turn += 1
        self._started = now
        self._resolving_until = now + RESOLVE_TIMEOUT
        self._events.append(Resolve(self._turn, self._plan))

    def set_only_https(self, *, only: bool, now: float) -> None:
        """Whether the network lets nothing but HTTPS out; measured anew if that is news."""
        if only != self._only_https:
            self._only_https = only
            self.measure(now, afresh=True)

    def force_home(self, region: int | None) -> None:
        """See :attr:`Home.forced`."""
        self._home.forced = region

    def pick_home(self) -> bool:
        """See :meth:`Home.pick`."""
        return self._home.pick(self._map or DERPMap())

    def choose_home(self, report: Report, now: float, *, alive: bool, told: bool = True) -> int:
        """Home region after a measurement.

        Args:
            report: what was found.
            now: seconds.
            alive: the present home's relay was heard lately.
            told: control hears of a move.
        """
        derp_map = self._map or DERPMap()
        return self._home.update(report.by_region(), derp_map, now, alive=alive, told=told)

    # --- inputs

    def begin(self, turn: int, addresses: Addresses, now: float) -> None:
        """The servers' addresses are known."""
        if turn == self._turn and self._resolving_until is not None:
            self._resolving_until = None
            regions = measurable(self._map or DERPMap())
            self._running = Measurement(
                self._plan,
                addresses,
                regions,
                now,
                self._random_bytes,
                full=self._full,
                only_https=self._only_https,
            )
            self._proceed(now)

    def handle_response_untrusted(self, data: bytes, now: float) -> None:
        """A STUN response.

        Raises:
            BadPacket: not one that we wait for.
        """
        if self._running is not None:
            self._running.handle_response_untrusted(data, now)
            self._proceed(now)

    def send_failed(self, addr: AddrPort, now: float) -> None:
        """The kernel has no way to this address."""
        if self._running is not None:
            self._running.send_failed(addr, now)
            self._proceed(now)

    def handle_latency(
        self, turn: int, region: int, version: int, seconds: float, *, icmp: bool
    ) -> None:
        """A region answered otherwise than by STUN."""
        if turn == self._turn and self._running is not None:
            self._running.handle_latency(region, version, seconds, icmp=icmp)

    def handle_asked(self, turn: int, now: float) -> None:
        """Nothing more will come of :class:`AskOtherwise`."""
        if turn == self._turn and self._running is not None:
            self._running.handle_asked(now)
            self._proceed(now)

    def handle_portal(self, turn: int, portal: bool | None, now: float) -> None:
        """What came of :class:`CheckPortal`."""
        if turn == self._turn and self._running is not None:
            self._running.handle_portal(portal, now)
            self._proceed(now)

    def handle_timeout(self, now: float, *, needed: bool) -> None:
        """Run what is due; ``needed``: findings would be used, so measure periodically."""
        if self._resolving_until is not None and now >= self._resolving_until:
            self.begin(self._turn, {}, now)
        if self._running is not None:
            self._running.handle_timeout(now)
            self._proceed(now)
        if self._next_at is not None and now >= self._next_at:
            self._next_at = None
            if needed or 0 < self._silences <= len(SILENT_PERIODS):
                self.measure(now)

    # --- outputs

    def poll_transmit(self) -> tuple[AddrPort, bytes] | None:
        """Next request to send from the data socket."""
        return None if self._running is None else self._running.poll_transmit()

    def poll_event(self) -> Resolve | Measured | Wanted | None:
        """Next thing to do."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        running = None if self._running is None else self._running.next_timeout()
        wanted = [t for t in (running, self._resolving_until, self._next_at) if t is not None]
        return min(wanted, default=None)

    def _pause(self, report: Report) -> float:
        """Seconds to the next measurement.

        An IP version by which servers were asked in vain, while the other one works, is asked again
        soon: peers are not told where we are by it.
        """
        asked = {version for _, version in self._plan} & report.can_send
        self._silences = self._silences + 1 if report.udp and asked - report.versions else 0
        if 0 < self._silences <= len(SILENT_PERIODS):
            return SILENT_PERIODS[self._silences - 1]
        low, high = STUN_PERIOD
        share = int.from_bytes(self._random_bytes(2), "big") / 0x10000
        return low + (high - low) * share

    def _proceed(self, now: float) -> None:
        """Hand on what the measurement wants, or its result."""
        if self._running is None:
            return
        while (wish := self._running.poll_wish()) is not None:
            self._events.append(Wanted(self._turn, wish, self._map or DERPMap()))
        if not self._running.done:
            return
        self._last = self._running.report()
        self._events.append(Measured(self._last, self._started))
        self._running = None
        self._next_at = now + self._pause(self._last)
        if self._again:
            self._again = False
            self.measure(now)
