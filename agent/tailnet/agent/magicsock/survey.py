"""When the network is measured, and what follows for our home.

Source: tailscale wgengine/magicsock/magicsock.go ReSTUN, periodicReSTUN.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.home import Home
from tailnet.agent.magicsock.netcheck import (
    FULL_EVERY,
    Measurement,
    Report,
    Target,
    regions_to_ask,
)
from tailnet.agent.tailcfg.derpmap import DERPMap

STUN_PERIOD = 20.0, 26.0  # seconds, uniform; NATs forget after 30
RESOLVE_TIMEOUT = 3.0  # seconds for finding the servers' addresses


class Resolve(NamedTuple):
    """Find the STUN servers of these regions, then call :meth:`Survey.begin` with ``turn``."""

    turn: int
    derp_map: DERPMap
    regions: list[int]


class Measured(NamedTuple):
    """A measurement is done: choose the home, and tell where we are."""

    report: Report


class Survey:
    """One measurement at a time; a wish during one starts exactly one more.

    Nothing is measured before there is a map of relays, nor while nobody needs it.
    """

    def __init__(self, *, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._map: DERPMap | None = None
        self._home = Home()
        self._running: Measurement | None = None
        self._turn = 0
        self._resolving_until: float | None = None
        self._again = False
        self._full_at: float | None = None
        self._next_at: float | None = None
        self._events: deque[Resolve | Measured] = deque()

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
            self._full_at = None
            self.measure(now)

    def measure(self, now: float, *, afresh: bool = False) -> None:
        """Measure now; ``afresh`` drops what runs, because the network is another one."""
        if afresh:
            self._full_at = self._running = self._resolving_until = None
        if self._map is None:
            return
        if self.busy:
            self._again = True
            return
        full = self._full_at is None or now - self._full_at >= FULL_EVERY
        if full:
            self._full_at = now
        self._turn += 1
        self._resolving_until = now + RESOLVE_TIMEOUT
        regions = regions_to_ask(self._map, self._home.latencies(), self.home, full=full)
        self._events.append(Resolve(self._turn, self._map, regions))

    def choose_home(self, report: Report, now: float, *, alive: bool) -> int:
        """Home region after a measurement; ``alive``: the connection to the present one works."""
        return self._home.update(report.by_region(), self._map or DERPMap(), now, alive=alive)

    # --- inputs

    def begin(self, turn: int, targets: Sequence[Target], now: float) -> None:
        """The servers' addresses are known."""
        if turn == self._turn and self._resolving_until is not None:
            self._resolving_until = None
            self._running = Measurement(targets, now, self._random_bytes)
            self._finish(now)

    def handle_response_untrusted(self, data: bytes, now: float) -> None:
        """A STUN response.

        Raises:
            BadPacket: not one that we wait for.
        """
        if self._running is not None:
            self._running.handle_response_untrusted(data, now)
            self._finish(now)

    def send_failed(self, addr: AddrPort, now: float) -> None:
        """The kernel has no way to this address."""
        if self._running is not None:
            self._running.send_failed(addr, now)
            self._finish(now)

    def handle_timeout(self, now: float, *, needed: bool) -> None:
        """Run what is due; ``needed``: findings would be used, so measure periodically."""
        if self._resolving_until is not None and now >= self._resolving_until:
            self.begin(self._turn, (), now)
        if self._running is not None:
            self._running.handle_timeout(now)
            self._finish(now)
        if self._next_at is not None and now >= self._next_at:
            self._next_at = None
            if needed:
                self.measure(now)

    # --- outputs

    def poll_transmit(self) -> tuple[AddrPort, bytes] | None:
        """Next request to send from the data socket."""
        return None if self._running is None else self._running.poll_transmit()

    def poll_event(self) -> Resolve | Measured | None:
        """Next thing to do."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        running = None if self._running is None else self._running.next_timeout()
        wanted = [t for t in (running, self._resolving_until, self._next_at) if t is not None]
        return min(wanted, default=None)

    def _finish(self, now: float) -> None:
        if self._running is None or not self._running.done:
            return
        self._events.append(Measured(self._running.report()))
        self._running = None
        low, high = STUN_PERIOD
        share = int.from_bytes(self._random_bytes(2), "big") / 0x10000
        self._next_at = now + low + (high - low) * share
        if self._again:
            self._again = False
            self.measure(now)
