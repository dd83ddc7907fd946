"""Nodes as control describes them: ``Node``, ``PeerChange``, ``Hostinfo``, ``NetInfo``, users.

Source: tailscale tailcfg/tailcfg.go.
"""

from datetime import datetime
from typing import Any, NewType

from msgspec import field

from tailnet.agent.addr import DERP_MAGIC, AddrPorts, IPAddress, IPNetwork
from tailnet.agent.keys import DiscoPublic, MachinePublic, NodePublic
from tailnet.agent.tailcfg.codec import Struct, prefixes
from tailnet.agent.tailcfg.dns import Resolver

NodeID = NewType("NodeID", int)  # int64 > 0, scoped to one map session
UserID = NewType("UserID", int)
StableNodeID = NewType("StableNodeID", str)

ZERO_NODE = NodePublic(bytes(32))
ZERO_DISCO = DiscoPublic(bytes(32))
ZERO_MACHINE = MachinePublic(bytes(32))

CapMap = dict[str, tuple[Any, ...] | None]


class NetInfo(Struct, frozen=True):
    """What a node knows of its network; ``preferred_derp`` is how others find its home region."""

    mapping_varies_by_dest_ip: bool | None = field(default=None, name="MappingVariesByDestIP")
    working_ipv6: bool | None = field(default=None, name="WorkingIPv6")
    os_has_ipv6: bool | None = field(default=None, name="OSHasIPv6")
    working_udp: bool | None = field(default=None, name="WorkingUDP")
    working_icmpv4: bool | None = field(default=None, name="WorkingICMPv4")
    upnp: bool | None = field(default=None, name="UPnP")
    pmp: bool | None = field(default=None, name="PMP")
    pcp: bool | None = field(default=None, name="PCP")
    have_port_map: bool = False
    preferred_derp: int = field(default=0, name="PreferredDERP")
    link_type: str = ""
    derp_latency: dict[str, float] | None = field(default=None, name="DERPLatency")
    firewall_mode: str = ""


class Service(Struct, frozen=True):
    """A listening service; ``proto`` is ``tcp``, ``udp``, ``peerapi4``, ``peerapi6`` or another."""

    proto: str = ""
    port: int = 0
    description: str = ""


class Location(Struct, frozen=True):
    """Where a node is, as its operator says; of ``priority`` more is chosen more gladly."""

    country: str = ""
    country_code: str = ""
    city: str = ""
    city_code: str = ""
    priority: int = 0


class Hostinfo(Struct, frozen=True):
    """What a node says about itself; sent whole in every request."""

    ipn_version: str = field(default="", name="IPNVersion")
    backend_log_id: str = field(default="", name="BackendLogID")
    os: str = field(default="", name="OS")
    os_version: str = field(default="", name="OSVersion")
    container: bool | None = None
    env: str = ""
    device_model: str = ""
    cloud: str = ""
    desktop: bool | None = None
    distro: str = ""
    distro_version: str = ""
    distro_code_name: str = ""
    app: str = ""
    package: str = ""
    hostname: str = ""
    shields_up: bool = False
    no_logs_no_support: bool = False
    machine: str = ""
    go_arch: str = ""
    go_version: str = ""
    routable_ips: tuple[str, ...] | None = field(default=None, name="RoutableIPs")
    request_tags: tuple[str, ...] | None = None
    services: tuple[Service, ...] | None = None
    net_info: NetInfo | None = None
    userspace: bool | None = None
    userspace_router: bool | None = None
    app_connector: bool | None = None
    peer_relay: bool | None = None
    remote_config: bool = False
    exit_node_id: str = field(default="", name="ExitNodeID")
    location: Location | None = None

    @property
    def priority(self) -> int:
        """How gladly it is chosen as an exit node."""
        return self.location.priority if self.location is not None else 0


class Node(Struct, frozen=True, dict=True):
    """A node, self or peer, in the form it has on the wire.

    Text that one bad peer could spoil for all (addresses, endpoints) stays text here; the methods
    parse it and leave out what is malformed.  A node's own addresses are parsed once.
    """

    id: NodeID = field(name="ID")
    stable_id: StableNodeID = field(default=StableNodeID(""), name="StableID")
    name: str = ""
    user: UserID = UserID(0)
    sharer: UserID = UserID(0)
    key: NodePublic = ZERO_NODE
    key_expiry: datetime | None = None
    machine: MachinePublic = ZERO_MACHINE
    disco_key: DiscoPublic = ZERO_DISCO
    addresses: tuple[str, ...] | None = None
    allowed_ips: tuple[str, ...] | None = field(default=None, name="AllowedIPs")
    endpoints: tuple[str, ...] | None = None
    derp: str = field(default="", name="DERP")
    home_derp: int = field(default=0, name="HomeDERP")
    hostinfo: Hostinfo | None = None
    created: datetime | None = None
    cap: int = 0
    tags: tuple[str, ...] | None = None
    primary_routes: tuple[str, ...] | None = None
    last_seen: datetime | None = None
    online: bool | None = None
    machine_authorized: bool = False
    capabilities: tuple[str, ...] | None = None
    cap_map: CapMap | None = None
    unsigned_peer_api_only: bool = field(default=False, name="UnsignedPeerAPIOnly")
    computed_name: str = ""
    expired: bool = False
    is_wire_guard_only: bool = False
    is_jailed: bool = False
    self_node_v4_masq_addr_for_this_peer: str = ""
    self_node_v6_masq_addr_for_this_peer: str = ""
    exit_node_dns_resolvers: tuple[Resolver, ...] | None = field(
        default=None, name="ExitNodeDNSResolvers"
    )

    @property
    def home_region(self) -> int:
        """Home DERP region, 0 if none; reads the legacy ``127.3.3.40:N`` form too."""
        if self.home_derp:
            return self.home_derp
        host, _, port = self.derp.rpartition(":")
        return int(port) if host == str(DERP_MAGIC) and port.isdecimal() and len(port) < 6 else 0

    def address_prefixes(self) -> tuple[IPNetwork, ...]:
        """The node's own addresses as /32 and /128."""
        memory = self.__dict__  # cached_property takes a lock, 20,000 times for a large map
        known: tuple[IPNetwork, ...] | None = memory.get("_prefixes")
        if known is None:
            memory["_prefixes"] = known = prefixes(self.addresses)
        return known

    def ips(self) -> tuple[IPAddress, ...]:
        """The node's own addresses."""
        memory = self.__dict__
        known: tuple[IPAddress, ...] | None = memory.get("_ips")
        if known is None:
            memory["_ips"] = known = tuple(p.network_address for p in self.address_prefixes())
        return known

    def allowed_prefixes(self) -> tuple[IPNetwork, ...]:
        """What this node may send from and be sent; ``null`` is its own addresses."""
        if self.allowed_ips is None or self.unsigned_peer_api_only:
            return self.address_prefixes()
        return prefixes(self.allowed_ips)

    @property
    def offers_exit(self) -> bool:
        """It takes what is for the internet, of both families."""
        allowed = self.allowed_ips
        return (
            allowed is not None
            and "0.0.0.0/0" in allowed
            and "::/0" in allowed
            and not self.unsigned_peer_api_only
        )

    def endpoint_addrs(self) -> AddrPorts:
        """Candidates for direct paths; malformed and zoned ones left out."""
        return AddrPorts(self.endpoints or ())

    @property
    def base_name(self) -> str:
        """First label of ``name``."""
        return self.name.partition(".")[0]


class PeerChange(Struct, frozen=True):
    """A patch to one peer; an absent field is unchanged."""

    node_id: NodeID = field(name="NodeID")
    derp_region: int = field(default=0, name="DERPRegion")
    cap: int = 0
    cap_map: CapMap | None = None
    endpoints: tuple[str, ...] | None = None
    key: NodePublic | None = None
    disco_key: DiscoPublic | None = None
    online: bool | None = None
    last_seen: datetime | None = None
    key_expiry: datetime | None = None


class UserProfile(Struct, frozen=True):
    """The person behind a node."""

    id: UserID = field(name="ID")
    login_name: str = ""
    display_name: str = ""
    profile_pic_url: str = field(default="", name="ProfilePicURL")
