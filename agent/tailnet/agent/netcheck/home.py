"""Which relay others find us at.

Source: tailscale net/netcheck/netcheck.go addReportHistoryAndSetPreferredDERP;
wgengine/magicsock/derp.go pickDERPFallback.
"""

from collections import deque
from collections.abc import Mapping

from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion

HISTORY = 305.0  # seconds of measurements whose best counts
HISTORY_MAX = 64  # measurements
ABSOLUTE_GAIN = 0.010  # seconds below which a faster region is not worth a move
RELATIVE_GAIN = 2 / 3  # of the current latency; a new home must be faster than that


class Home:
    """The home region and the measurements behind it.

    Attributes:
        region: the home, 0 if none.
        forced: somebody who looks for a fault wants this one, 0 for none, as long as it answers.
    """

    def __init__(self, seed: int = 0) -> None:
        """``seed`` picks a home when nothing answers, so that not all nodes pick the same."""
        self._seed = seed
        self.region = 0
        self.forced: int | None = None
        self._picked = 0
        self._history: deque[tuple[float, dict[int, float]]] = deque(maxlen=HISTORY_MAX)

    def pick(self, derp_map: DERPMap) -> bool:
        """Move elsewhere at the next measurement, for the time until the one after it.

        False if there is no other region.  Source: magicsock.go DebugPickNewDERP.
        """
        others = [r for r in derp_map.regions or {} if _home_region(derp_map, r)]
        self._picked = next((r for r in sorted(others) if r != self.region), 0)
        return bool(self._picked)

    def update(
        self,
        latency: Mapping[int, float],
        derp_map: DERPMap,
        now: float,
        *,
        alive: bool,
        told: bool = True,
    ) -> int:
        """Take a measurement and choose.

        A home that works is left only for a clearly better one.  When nothing answers the home is
        kept, or else any region taken: a node without a home cannot be found.

        Args:
            latency: seconds, by region that answered.
            derp_map: the regions there are.
            now: seconds.
            alive: the present home's relay is connected and was heard lately.
            told: control hears of a move; without that a home that works is not left.
        """
        scores = (derp_map.home_params.region_score if derp_map.home_params else None) or {}
        self._history.append((now, dict(latency)))
        while now - self._history[0][0] > HISTORY:
            self._history.popleft()
        if derp_map.region(self.region) is None:
            self.region = 0
        best = {r: t * _score(scores, r) for r, t in self.latencies().items() if r in latency}
        able = {r: region for r in best if (region := _home_region(derp_map, r)) is not None}
        picked, self._picked = self._picked, 0
        if self.forced == 0 or self.forced in able or picked in able:
            self.region = picked if self.forced is None else self.forced
            return self.region
        candidates = [r for r, region in able.items() if not region.avoid or r == self.region]
        candidates = candidates or list(able)
        if not candidates:
            self.region = self.region or _any(derp_map, self._seed)
            return self.region
        candidate = min(candidates, key=lambda r: (best[r], r))
        current = latency.get(self.region, 0.0) * _score(scores, self.region)
        stay = alive and not told and self.region
        if not stay and not self._keep(current, best[candidate], alive=alive):
            self.region = candidate
        return self.region

    def latencies(self) -> dict[int, float]:
        """Best recent latency [s] of each region."""
        best: dict[int, float] = {}
        for _, measured in self._history:
            for region, seconds in measured.items():
                best[region] = min(seconds, best.get(region, seconds))
        return best

    def _keep(self, current: float, best: float, *, alive: bool) -> bool:
        if not self.region or not (current or alive):
            return False
        return current - best < ABSOLUTE_GAIN or best > current * RELATIVE_GAIN


def _score(scores: Mapping[int, float], region: int) -> float:
    score = scores.get(region, 0.0)
    return score if score > 0 else 1.0


def _relays(region: DERPRegion) -> bool:
    return any(not n.stun_only for n in region.nodes or ())


def _home_region(derp_map: DERPMap, region_id: int) -> DERPRegion | None:
    region = derp_map.region(region_id)
    if region is None or region.no_measure_no_home or not _relays(region):
        return None
    return region


def _any(derp_map: DERPMap, seed: int) -> int:
    """A region, always the same for a seed; those to be avoided only if there are no others."""
    ranks: dict[tuple[bool, bool], list[int]] = {}
    for r, region in sorted((derp_map.regions or {}).items()):
        if region is not None and _relays(region):
            ranks.setdefault((region.no_measure_no_home, region.avoid), []).append(r)
    if not ranks:
        return 0
    best = ranks[min(ranks)]
    return best[seed % len(best)]
