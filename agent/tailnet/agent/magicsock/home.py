"""Which relay others find us at.

Source: tailscale net/netcheck/netcheck.go addReportHistoryAndSetPreferredDERP.
"""

from collections import deque
from collections.abc import Mapping

from msgspec import structs

from tailnet.agent.magicsock.netcheck import Report
from tailnet.agent.portmap.interface import NO_PORTMAP, Portmap
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion
from tailnet.agent.tailcfg.node import NetInfo

HISTORY = 305.0  # seconds of measurements whose best counts
HISTORY_MAX = 64  # measurements
ABSOLUTE_GAIN = 0.010  # seconds below which a faster region is not worth a move
RELATIVE_GAIN = 2 / 3  # of the current latency; a new home must be faster than that


class Home:
    """The home region and the measurements behind it.

    Attributes:
        region: the home, 0 if none.
    """

    def __init__(self) -> None:
        self.region = 0
        self._history: deque[tuple[float, dict[int, float]]] = deque(maxlen=HISTORY_MAX)

    def update(
        self, latency: Mapping[int, float], derp_map: DERPMap, now: float, *, alive: bool
    ) -> int:
        """Take a measurement and choose.

        A home that works is left only for a clearly better one.  When nothing answers the home is
        kept, or else the first region taken: a node without a home cannot be found.

        Args:
            latency: seconds, by region that answered.
            derp_map: the regions there are.
            now: seconds.
            alive: the relay connection to the present home works.
        """
        scores = (derp_map.home_params.region_score if derp_map.home_params else None) or {}
        scaled = {r: s * _score(scores, r) for r, s in latency.items()}
        self._history.append((now, scaled))
        while now - self._history[0][0] > HISTORY:
            self._history.popleft()
        if derp_map.region(self.region) is None:
            self.region = 0
        best = {r: t for r, t in self.latencies().items() if r in scaled}
        able = {r: region for r in best if (region := _home_region(derp_map, r)) is not None}
        candidates = [r for r, region in able.items() if not region.avoid or r == self.region]
        candidates = candidates or list(able)
        if not candidates:
            self.region = self.region or _first(derp_map)
            return self.region
        candidate = min(candidates, key=lambda r: (best[r], r))
        if not self._keep(scaled.get(self.region, 0.0), best[candidate], alive=alive):
            self.region = candidate
        return self.region

    def latencies(self) -> dict[int, float]:
        """Best recent latency [s] of each region, scores applied."""
        best: dict[int, float] = {}
        for _, measured in self._history:
            for region, seconds in measured.items():
                best[region] = min(seconds, best.get(region, seconds))
        return best

    def _keep(self, current: float, best: float, *, alive: bool) -> bool:
        if not self.region or not (current or alive):
            return False
        return current - best < ABSOLUTE_GAIN or best > current * RELATIVE_GAIN


def net_info(
    report: Report, home: int, *, has_ipv6: bool, portmap: Portmap = NO_PORTMAP
) -> NetInfo:
    """What control is told of a measurement."""
    versions = {version for _, version in report.latency}
    return NetInfo(
        mapping_varies_by_dest_ip=report.hard_nat,
        working_ipv6=6 in versions,
        os_has_ipv6=has_ipv6,
        working_udp=bool(versions) if report.asked else None,
        upnp=portmap.support.upnp,
        pmp=portmap.support.pmp,
        pcp=portmap.support.pcp,
        have_port_map=portmap.external is not None,
        preferred_derp=home,
        derp_latency={f"{r}-v{v}": s for (r, v), s in sorted(report.latency.items())} or None,
    )


def facts(info: NetInfo) -> NetInfo:
    """Without latencies, which alone are not worth telling control."""
    return structs.replace(info, derp_latency=None)


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


def _first(derp_map: DERPMap) -> int:
    """The first region by number; those to be avoided only if there is no other."""
    regions = sorted(
        (region.no_measure_no_home, region.avoid, r)
        for r, region in (derp_map.regions or {}).items()
        if region is not None and _relays(region)
    )
    return regions[0][2] if regions else 0
