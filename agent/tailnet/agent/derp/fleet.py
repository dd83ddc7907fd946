"""Which regions are connected, and by which of them a peer is reached.

One link per wanted region::

                  ┌───────────── retry ◄── WAITING (backoff) ◄─┐
    (none) ──► DIALLING ──accepted──► UP ──failed──────────────┤
       ▲          └────────────────────── failed ──────────────┘
       └── idle for 60 s, gone from the map; never the home region

Source: tailscale wgengine/magicsock/derp.go (derpWriteChanForRegion, maybeCloseDERPsOnRebind,
cleanStaleDerp, setNearestDERP).
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion

IDLE_CLOSE = 60.0  # s without a write; derpInactiveCleanupTime
SWEEP = 15.0  # s; derpCleanStaleInterval
BACKOFF_FIRST = 0.25  # s
BACKOFF_MAX = 5.0  # s
STABLE = 10.0  # s of life after which a connection counts as good, even if nobody spoke
RESTART_MAX = 30.0  # s; the longest wait a relay may ask for
MAX_ROUTES = 1 << 14  # peers


class Phase(Enum):
    """What a link is doing."""

    DIALLING = auto()
    UP = auto()
    WAITING = auto()


@dataclass(frozen=True)
class Open:
    """Dial this region, now."""

    region: DERPRegion


@dataclass(frozen=True)
class Close:
    """Close the region's connection, or stop dialling it."""

    region_id: int


@dataclass(frozen=True)
class Prefer:
    """Tell this connected relay whether it is home."""

    region_id: int
    home: bool


Action = Open | Close | Prefer


@dataclass(slots=True)
class _Link:
    written: float
    phase: Phase = Phase.DIALLING
    failures: int = 0
    up_at: float = 0.0
    retry_at: float = 0.0
    restart_in: float = 0.0


class Fleet:
    """The machine; region 0 is "none" everywhere."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._regions: dict[int, DERPRegion] = {}
        self._links: dict[int, _Link] = {}
        self._routes: dict[NodePublic, int] = {}
        self._actions: deque[Action] = deque()
        self._sweep_at: float | None = None
        self.home = 0

    # --- wishes --------------------------------------------------------------

    def set_map(self, derp_map: DERPMap, now: float) -> None:
        """Close what went or changed; what is still wanted comes back by the new definition."""
        regions = {i: r for i, r in (derp_map.regions or {}).items() if r is not None and i > 0}
        changed = [i for i in self._links if self._regions.get(i) != regions.get(i)]
        self._regions = regions
        for region in changed:
            self._close(region)
        self._want_home(now)

    def set_home(self, region: int, now: float) -> None:
        """Connect to ``region`` and stay; the old home may now become idle."""
        if region == self.home:
            return
        old, self.home = self.home, region
        for told in (old, region):
            if self.phase(told) is Phase.UP:
                self._actions.append(Prefer(told, told == region))
        if (link := self._links.get(old)) is not None:
            link.written = now
            self._arm_sweep(now)
        self._want_home(now)

    def restart(self, now: float) -> None:
        """Close everything and begin anew: the node key changed."""
        for region in list(self._links):
            self._close(region)
        self._want_home(now)

    def route(self, region: int, dst: NodePublic, now: float) -> int:
        """The region by which to write to a peer whose home is ``region``; 0 if there is none.

        An accepted connection to its home wins, then the accepted connection it was last heard on;
        else its home is dialled.
        """
        if (link := self._links.get(region)) is not None and link.phase is Phase.UP:
            link.written = now
            return region
        learned = self._routes.get(dst, 0)
        if learned:
            self._links[learned].written = now
            return learned
        return region if self._want(region, now) else 0

    def knows(self, region: int) -> bool:
        """True if the map has this region."""
        return region in self._regions

    def link_changed(self, now: float) -> None:
        """The network moved: those that wait to retry do so now."""
        for link in self._links.values():
            link.failures = 0
            if link.phase is Phase.WAITING:
                link.retry_at = now

    def _want_home(self, now: float) -> None:
        self._want(self.home, now)

    def _want(self, region: int, now: float) -> bool:
        if (link := self._links.get(region)) is not None:
            link.written = now
            return True
        if region not in self._regions:
            return False
        self._links[region] = _Link(written=now)
        self._actions.append(Open(self._regions[region]))
        self._arm_sweep(now)
        return True

    def _close(self, region: int) -> None:
        link = self._links.pop(region)
        self._forget_routes(region)
        if link.phase is not Phase.WAITING:
            self._actions.append(Close(region))

    # --- what happened -------------------------------------------------------

    def handle_up(self, region: int, now: float) -> None:
        """The relay accepted us."""
        if (link := self._links.get(region)) is not None:
            link.phase, link.up_at = Phase.UP, now
            if region == self.home:
                self._actions.append(Prefer(region, True))

    def handle_failed(self, region: int, now: float) -> None:
        """The connection, or the attempt to get one, ended."""
        link = self._links.get(region)
        if link is None or link.phase is Phase.WAITING:
            return
        self._forget_routes(region)
        if link.phase is Phase.UP and now - link.up_at >= STABLE:
            link.failures = 0
        jitter = 0.5 + int.from_bytes(self._random_bytes(2), "big") / 0x1FFFF
        wait = min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** min(link.failures, 10)) * jitter
        link.retry_at = now + link.restart_in + wait  # all its clients were told the same time
        link.failures += 1
        link.restart_in = 0.0
        link.phase = Phase.WAITING

    def handle_received(self, region: int, sources: Iterable[NodePublic]) -> None:
        """Packets of these peers came from ``region``: the way back."""
        link = self._links.get(region)
        if link is None or link.phase is not Phase.UP:
            return
        link.failures = 0
        routes = self._routes
        for source in sources:
            if routes.get(source) != region:
                routes.pop(source, None)
                if len(routes) >= MAX_ROUTES:
                    del routes[next(iter(routes))]
                routes[source] = region

    def handle_peer_gone(self, region: int, peer: NodePublic) -> None:
        """The relay does not have this peer."""
        if self._routes.get(peer) == region:
            del self._routes[peer]

    def handle_restarting(self, region: int, reconnect_in: float) -> None:
        """The relay is about to go, and asks to stay away for a while [s]."""
        if (link := self._links.get(region)) is not None:
            link.restart_in = min(reconnect_in, RESTART_MAX)

    def _forget_routes(self, region: int) -> None:
        for peer in [peer for peer, at in self._routes.items() if at == region]:
            del self._routes[peer]

    # --- time and output -----------------------------------------------------

    def phase(self, region: int) -> Phase | None:
        """What the link of a region is doing; ``None`` if there is none."""
        link = self._links.get(region)
        return None if link is None else link.phase

    def live(self) -> frozenset[int]:
        """Regions that are up."""
        return frozenset(i for i, link in self._links.items() if link.phase is Phase.UP)

    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout` [s]."""
        times = [link.retry_at for link in self._links.values() if link.phase is Phase.WAITING]
        if self._sweep_at is not None:
            times.append(self._sweep_at)
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        """Close what is idle, dial what waited long enough."""
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep_at = None
            for region, link in list(self._links.items()):
                if region != self.home and now - link.written >= IDLE_CLOSE:
                    self._close(region)
            self._arm_sweep(now)
        for region, link in self._links.items():
            if link.phase is Phase.WAITING and now >= link.retry_at:
                link.phase = Phase.DIALLING
                self._actions.append(Open(self._regions[region]))

    def _arm_sweep(self, now: float) -> None:
        if self._sweep_at is None and any(region != self.home for region in self._links):
            self._sweep_at = now + SWEEP

    def poll_action(self) -> Action | None:
        """The next thing for the shell to do."""
        return self._actions.popleft() if self._actions else None
