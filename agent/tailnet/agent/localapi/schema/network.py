"""What the network is like, and the routes that others offer.

Source: tailscale net/netcheck/netcheck.go, Report; the routes are ours.
"""

from datetime import datetime

from msgspec import Struct, field

from tailnet.agent.localapi.schema.basics import ZERO_TIME


class RouteEntry(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET routes``: a route that a peer, or this machine (``peer`` empty), offers.

    ``parts`` is what is used of it, if not all; ``why`` explains the verdict to people.
    """

    prefix: str = ""
    peer: str = ""
    peer_id: str = field(default="", name="PeerID")
    verdict: str = ""
    used: bool = False
    parts: tuple[str, ...] = ()
    why: str = ""


class DERPRegionName(Struct, frozen=True, kw_only=True, rename="pascal"):
    """What ``GET derpmap`` says of a region, as far as people care."""

    region_code: str = ""
    region_name: str = ""


class DERPRegions(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The rest of ``GET derpmap``."""

    regions: dict[int, DERPRegionName | None] | None = None


class NetcheckReport(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``POST netcheck``: what upstream's ``netcheck --format=json`` prints.

    Latencies are in nanoseconds, by region; counters are by our ``ip:port`` as servers saw it.
    ``None``: not known.
    """

    now: datetime = ZERO_TIME
    udp: bool = field(default=False, name="UDP")
    ipv6: bool = field(default=False, name="IPv6")
    ipv4: bool = field(default=False, name="IPv4")
    ipv6_can_send: bool = field(default=False, name="IPv6CanSend")
    ipv4_can_send: bool = field(default=False, name="IPv4CanSend")
    os_has_ipv6: bool = field(default=False, name="OSHasIPv6")
    icmpv4: bool = field(default=False, name="ICMPv4")
    mapping_varies_by_dest_ip: bool | None = field(default=None, name="MappingVariesByDestIP")
    upnp: bool | None = field(default=None, name="UPnP")
    pmp: bool | None = field(default=None, name="PMP")
    pcp: bool | None = field(default=None, name="PCP")
    preferred_derp: int = field(default=0, name="PreferredDERP")
    region_latency: dict[int, int] = field(default_factory=dict)
    region_v4_latency: dict[int, int] = field(default_factory=dict, name="RegionV4Latency")
    region_v6_latency: dict[int, int] = field(default_factory=dict, name="RegionV6Latency")
    global_v4_counters: dict[str, int] = field(default_factory=dict, name="GlobalV4Counters")
    global_v6_counters: dict[str, int] = field(default_factory=dict, name="GlobalV6Counters")
    global_v4: str = field(default="", name="GlobalV4")
    global_v6: str = field(default="", name="GlobalV6")
    captive_portal: bool | None = None
