"""The map of DERP relays.

Source: tailscale tailcfg/derpmap.go.
"""

from msgspec import field

from tailnet.agent.tailcfg.codec import Struct

DEFAULT_STUN_PORT = 3478
DEFAULT_DERP_PORT = 443


class DERPNode(Struct, frozen=True):
    """One relay server of a region.

    ``ipv4``/``ipv6``: empty resolves ``host_name``, ``none`` disables the family, else a literal.
    ``stun_port`` and ``derp_port``: 0 is the default, −1 (STUN) is "none".
    ``cert_name`` may pin a certificate: ``sha256-raw:<64 hex of its DER form>``.
    """

    name: str = ""
    region_id: int = field(default=0, name="RegionID")
    host_name: str = ""
    cert_name: str = ""
    ipv4: str = field(default="", name="IPv4")
    ipv6: str = field(default="", name="IPv6")
    stun_port: int = field(default=0, name="STUNPort")
    stun_only: bool = field(default=False, name="STUNOnly")
    derp_port: int = field(default=0, name="DERPPort")
    insecure_for_tests: bool = False
    stun_test_ip: str = field(default="", name="STUNTestIP")
    can_port80: bool = field(default=False, name="CanPort80")


class DERPRegion(Struct, frozen=True):
    """A set of interchangeable relays; a node's home is a region, not a server."""

    region_id: int = field(default=0, name="RegionID")
    region_code: str = ""
    region_name: str = ""
    latitude: float = 0.0
    longitude: float = 0.0
    avoid: bool = False
    no_measure_no_home: bool = False
    nodes: tuple[DERPNode, ...] | None = None


class HomeParams(Struct, frozen=True):
    """``region_score``: factor on measured latency by region; below 1 prefers, above avoids."""

    region_score: dict[int, float] | None = None


class DERPMap(Struct, frozen=True):
    """All regions.  In an update, an absent part is inherited (see control's netmap)."""

    home_params: HomeParams | None = None
    regions: dict[int, DERPRegion | None] | None = None
    omit_default_regions: bool = field(default=False, name="omitDefaultRegions")

    def region(self, region_id: int) -> DERPRegion | None:
        """One region, or ``None``; regions that control sent as ``null`` do not exist."""
        return (self.regions or {}).get(region_id)
