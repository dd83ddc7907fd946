"""A region of the map, tried relay by relay: ``tnet debug derp``.

Source: tailscale ipn/localapi/debugderp.go.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tailnet.agent.derp.dial.aio import Dialer
from tailnet.agent.derp.trial.aio import greet
from tailnet.agent.keys import NodePublic
from tailnet.agent.netcheck.aio import Netcheck
from tailnet.agent.netcheck.plan import stun_port
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

GREETINGS = 3  # by which a relay that is several shows itself; debugderp.go makes five


@dataclass(slots=True)
class Findings:
    """Sentences for people."""

    info: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def find_region(derp_map: DERPMap, name: str) -> DERPRegion | None:
    """By number or code."""
    regions = [region for region in (derp_map.regions or {}).values() if region is not None]
    return next((r for r in regions if name in (str(r.region_id), r.region_code)), None)


class RegionCheck:
    """Tries relays as a node that nobody knows."""

    def __init__(
        self,
        dialer: Dialer,
        make_netcheck: Callable[[], Netcheck],
        *,
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """``make_netcheck``: for one measurement."""
        self._dialer = dialer
        self._make_netcheck = make_netcheck
        self._now = now
        self._random_bytes = random_bytes

    async def run(self, derp_map: DERPMap, name: str, versions: Collection[int]) -> Findings:
        """What is good and bad about a region; ``versions``: of IP that this machine has."""
        found = Findings()
        if not derp_map.regions:
            found.errors.append("no relays are known: connect this machine first, with: tnet up")
            return found
        region = find_region(derp_map, name)
        if region is None:
            found.errors.append(f"the network map has no region {name!r}")
            return found
        found.info.append(f"region {region.region_id} is {region.region_code!r}")
        if len(derp_map.regions) == 1:
            found.warnings.append("it is the only region: without it peers find no way")
        if region.avoid:
            found.warnings.append("nodes are told to avoid it")
        if not region.nodes:
            found.errors.append("it has no relay")
        for node in region.nodes or ():
            if node.stun_only:
                found.info.append(f"{node.host_name} only answers STUN; not tried further")
            else:
                await self._relay(node, versions, found)
            if stun_port(node) > 0:
                await self._stun(region, node, versions, found)
        return found

    async def _relay(self, node: DERPNode, versions: Collection[int], found: Findings) -> None:
        keys: set[NodePublic] = set()
        working = []
        for version in sorted(versions):
            if (node.ipv4 if version == 4 else node.ipv6) == "none":
                continue
            try:
                for _ in range(GREETINGS):
                    keys.add(
                        await greet(
                            self._dialer,
                            node,
                            version,
                            now=self._now,
                            random_bytes=self._random_bytes,
                        )
                    )
            except OSError as error:
                found.errors.append(f"{node.host_name} over IPv{version}: {error}")
            else:
                working.append(f"IPv{version}")
        if working:
            found.info.append(f"{node.host_name} relays over {' and '.join(working)}")
        if len(keys) > 1:
            found.errors.append(
                f"{node.host_name} has {len(keys)} keys: relays behind a load balancer do not "
                "find each other's clients"
            )

    async def _stun(
        self, region: DERPRegion, node: DERPNode, versions: Collection[int], found: Findings
    ) -> None:
        alone = DERPRegion(region_id=region.region_id, region_code="alone", nodes=(node,))
        map_of_one = DERPMap(regions={region.region_id: alone})
        report, _ = await self._make_netcheck().run(map_of_one, versions)
        seen = [addr for version in (4, 6) if (addr := report.first_seen(version)) is not None]
        for addr in seen:
            version = addr.ip.version
            found.info.append(f"{node.host_name} answers STUN over IPv{version}: we are {addr}")
        if not seen:  # HTTPS and ICMP may have answered in its place
            found.warnings.append(f"{node.host_name} does not answer STUN")
        if report.portal:
            found.warnings.append(f"somebody else answers for {node.host_name}: a captive portal?")
