"""The LocalAPI's JSON: what the daemon says and ``tnet`` reads.

Self-contained, so that the command line starts without the daemon's protocols.  Names are Go's.
Three kinds of "nothing", as Go writes them: a zero value, ``null`` (``None``), and left out
(``UNSET``, what Go calls omitempty).

Source: tailscale ipn/backend.go, Notify; ipn/ipnstate/ipnstate.go; tailcfg, UserProfile.
"""

from datetime import datetime, timezone
from typing import Any, TypeVar

from msgspec import UNSET, DecodeError, Struct, UnsetType, field, json

from tailnet.agent._version import __version__

VERSION = __version__
BASE = "/localapi/v0/"
HOST = "local-tailscaled.sock"  # the only Host a client may send
ZERO_TIME = datetime(1, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - Go's zero time: "never"

STATES = (
    "NoState",
    "InUseOtherUser",
    "NeedsLogin",
    "NeedsMachineAuth",
    "Stopped",
    "Starting",
    "Running",
)

# Bits of watch-ipn-bus?mask=.
WATCH_ENGINE_UPDATES = 1
INITIAL_STATE = 2
INITIAL_PREFS = 4
INITIAL_NETMAP = 8
NO_PRIVATE_KEYS = 16
INITIAL_HEALTH = 128
RATE_LIMIT = 256
PEER_CHANGES = 4096
NO_NETMAP = 8192
INITIAL_STATUS = 16384
PEER_PATCHES = 32768
IN_PROCESS_NO_DISCONNECT = 65536

FELL_BEHIND = "IPN bus consumer fell behind; closing watch"

T = TypeVar("T")


class UserProfile(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The person behind a node."""

    id: int = field(default=0, name="ID")
    login_name: str = ""
    display_name: str = ""
    profile_pic_url: str = field(default="", name="ProfilePicURL")


class NetworkProfile(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Names of an account's tailnet."""

    magic_dns_name: str = field(default="", name="MagicDNSName")
    domain_name: str = ""
    display_name: str = ""


class LoginProfile(Struct, frozen=True, kw_only=True, rename="pascal"):
    """An account; ``name`` is its nickname, or else the login name."""

    id: str = field(default="", name="ID")
    name: str = ""
    network_profile: NetworkProfile = NetworkProfile()
    user_profile: UserProfile = UserProfile()
    control_url: str = field(default="", name="ControlURL")


class TailnetStatus(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The tailnet this node is in."""

    name: str = ""
    magic_dns_suffix: str = field(default="", name="MagicDNSSuffix")
    magic_dns_enabled: bool = field(default=False, name="MagicDNSEnabled")


class PeerStatus(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A node, self or peer.

    ``id`` is the stable id; ``public_key`` is ``nodekey:…``; ``dns_name`` ends with a dot.
    ``cur_addr`` is empty while relayed; ``relay`` is the home region's code.  ``active``: traffic
    in the last two minutes.  Bytes are of IP packets, from the start of the daemon.
    """

    id: str = field(default="", name="ID")
    node_id: str | UnsetType = field(default=UNSET, name="NodeID")
    public_key: str = ""
    host_name: str = ""
    dns_name: str = field(default="", name="DNSName")
    os: str = field(default="", name="OS")
    user_id: int = field(default=0, name="UserID")
    alt_sharer_user_id: int | UnsetType = field(default=UNSET, name="AltSharerUserID")
    tailscale_ips: tuple[str, ...] | None = field(default=None, name="TailscaleIPs")
    allowed_ips: tuple[str, ...] | UnsetType | None = field(default=UNSET, name="AllowedIPs")
    tags: tuple[str, ...] | UnsetType | None = UNSET
    primary_routes: tuple[str, ...] | UnsetType | None = UNSET
    addrs: tuple[str, ...] | None = None
    cur_addr: str = ""
    relay: str = ""
    peer_relay: str = ""
    rx_bytes: int = 0
    tx_bytes: int = 0
    created: datetime = ZERO_TIME
    last_write: datetime = ZERO_TIME
    last_seen: datetime = ZERO_TIME
    last_handshake: datetime = ZERO_TIME
    online: bool = False
    exit_node: bool = False
    exit_node_option: bool = False
    active: bool = False
    peer_api_url: tuple[str, ...] | None = field(default=None, name="PeerAPIURL")
    taildrop_target: int = 0
    no_file_sharing_reason: str = ""
    capabilities: tuple[str, ...] | UnsetType | None = UNSET
    cap_map: dict[str, Any] | UnsetType | None = UNSET
    ssh_host_keys: tuple[str, ...] | UnsetType | None = field(default=UNSET, name="sshHostKeys")
    sharee_node: bool | UnsetType = UNSET
    in_network_map: bool = False
    in_magic_sock: bool = False
    in_engine: bool = False
    expired: bool | UnsetType = UNSET
    key_expiry: datetime | UnsetType | None = UNSET
    location: dict[str, Any] | UnsetType | None = UNSET


class ExitNodeStatus(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The exit node in use."""

    id: str = field(default="", name="ID")
    online: bool = False
    tailscale_ips: tuple[str, ...] | None = field(default=None, name="TailscaleIPs")


class DatapathStatus(Struct, frozen=True, kw_only=True, rename="pascal"):
    """What moves the packets; ours alone, Go's daemon says nothing of the kind."""

    name: str = ""
    version: str = ""
    aead: str = field(default="", name="AEAD")
    threads: int = 1  # that encrypt


class Status(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET status``.  ``peer`` is by ``nodekey:…`` and ``None`` with ``peers=false``."""

    version: str = VERSION
    tun: bool = field(default=True, name="TUN")
    backend_state: str = "NoState"
    have_node_key: bool | UnsetType = UNSET
    auth_url: str = field(default="", name="AuthURL")
    tailscale_ips: tuple[str, ...] | None = field(default=None, name="TailscaleIPs")
    self_: PeerStatus | None = field(default=None, name="Self")
    exit_node_status: ExitNodeStatus | UnsetType | None = UNSET
    health: tuple[str, ...] | None = ()
    magic_dns_suffix: str = field(default="", name="MagicDNSSuffix")
    current_tailnet: TailnetStatus | None = None
    cert_domains: tuple[str, ...] | None = None
    extra_records: tuple[dict[str, Any], ...] | UnsetType | None = UNSET
    peer: dict[str, PeerStatus] | None = None
    user: dict[int, UserProfile] | None = None
    client_version: dict[str, Any] | None = None
    datapath: DatapathStatus | UnsetType = field(default=UNSET, name="TailnetdDatapath")


class PingResult(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``POST ping``.  Exactly one of ``err``, ``endpoint``, ``derp_region_id`` says how it went."""

    ip: str = field(default="", name="IP")
    node_ip: str = field(default="", name="NodeIP")
    node_name: str = ""
    err: str = ""
    latency_seconds: float = 0.0
    endpoint: str = ""
    peer_relay: str = ""
    derp_region_id: int = field(default=0, name="DERPRegionID")
    derp_region_code: str = field(default="", name="DERPRegionCode")
    peer_api_port: int | UnsetType = field(default=UNSET, name="PeerAPIPort")
    peer_api_url: str | UnsetType = field(default=UNSET, name="PeerAPIURL")
    is_local_ip: bool | UnsetType = field(default=UNSET, name="IsLocalIP")


class PathCandidate(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One address of a peer.  ``pongs`` are latencies [s], latest last; ages are in seconds."""

    addr: str = ""
    sources: tuple[str, ...] = ()
    used: bool = False
    verdict: str = ""
    pongs: tuple[float, ...] = ()
    last_pong_age: float | None = None
    last_ping_age: float | None = None
    wire_mtu: int = field(default=0, name="WireMTU")


class PathSwitch(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The path became this one, ``age`` seconds ago."""

    age: float = 0.0
    path: str = ""
    why: str = ""


class PathDetails(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET path``: the ways to one peer.

    ``kind`` is direct, relay, both (the direct path is not trusted), peer-relay,
    peer-relay-and-relay (the peer relay is not trusted), or none.  ``trusted_for`` is
    in seconds; ``candidates`` and ``history`` (oldest first) are empty in the list of all.
    """

    id: str = field(default="", name="ID")
    name: str = ""
    policy: str = "auto"
    kind: str = "none"
    addr: str = ""
    relay: str = ""
    latency_seconds: float | None = None
    trusted_for: float | None = None
    switches: int = 0
    candidates: tuple[PathCandidate, ...] = ()
    history: tuple[PathSwitch, ...] = ()


class PeerRelayClient(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One end of a session; ``endpoint`` is empty until it is bound, counts are of what it sent."""

    endpoint: str = ""
    short_disco: str = ""
    packets_tx: int = 0
    bytes_tx: int = 0


class PeerRelaySession(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Two peers for which this machine relays."""

    vni: int = field(default=0, name="VNI")
    client1: PeerRelayClient = PeerRelayClient()
    client2: PeerRelayClient = PeerRelayClient()


class PeerRelaySessions(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET debug-peer-relay-sessions``; the port is ``null`` where there is no peer relay."""

    udp_port: int | None = field(default=None, name="UDPPort")
    sessions: tuple[PeerRelaySession, ...] = ()


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


class DNSOSConfig(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET dns-osconfig``: how the host resolved names before us; ``mode`` is who decides there.

    ``known`` is false where only that program knows.
    """

    nameservers: tuple[str, ...] = ()
    search_domains: tuple[str, ...] = ()
    match_domains: tuple[str, ...] = ()
    mode: str = ""
    known: bool = True


class DNSResolver(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Somebody to ask: an address, or a URL."""

    addr: str = ""


class DNSQueryAnswer(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET dns-query``.

    Attributes:
        data: the whole message; empty: nobody gave one.
        resolvers: who was to be asked; none if the daemon knows it itself.
        why: the rule that decided.
        server: who answered; empty if the daemon did.
    """

    data: bytes = field(default=b"", name="Bytes")
    resolvers: tuple[DNSResolver, ...] = ()
    why: str = ""
    server: str = ""


class WhoNode(Struct, frozen=True, kw_only=True, rename="pascal"):
    """What ``GET whois`` says of a node, as far as people care; ``name`` ends with a dot."""

    stable_id: str = field(default="", name="StableID")
    name: str = ""
    addresses: tuple[str, ...] | None = None
    allowed_ips: tuple[str, ...] | None = field(default=None, name="AllowedIPs")
    tags: tuple[str, ...] | None = None


class WhoIs(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET whois``; ``cap_map`` is what rules grant that node at this one, beyond packets."""

    node: WhoNode = WhoNode()
    user_profile: UserProfile = UserProfile()
    cap_map: dict[str, tuple[Any, ...] | None] | None = None


class TraceStep(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One decision: ``verdict`` is pass, note or stop; ``evidence`` are lines."""

    stage: str = ""
    verdict: str = "pass"
    text: str = ""
    evidence: tuple[str, ...] = ()


class TraceAnswer(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET trace``: a packet's way, to its end or to what stops it; ``verdict``: the gravest."""

    src: str = ""
    dst: str = ""
    flow: str = ""
    verdict: str = "pass"
    steps: tuple[TraceStep, ...] = ()


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


class Engine(Struct, frozen=True, kw_only=True):
    """``Notify.Engine``: bytes so far, peers with a session, connected relays."""

    r_bytes: int = field(default=0, name="RBytes")
    w_bytes: int = field(default=0, name="WBytes")
    num_live: int = field(default=0, name="NumLive")
    live_derps: int = field(default=0, name="LiveDERPs")
    live_peers: dict[str, Any] = field(default_factory=dict, name="LivePeers")


class Notify(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One line of ``watch-ipn-bus``; a field that is ``None`` or unset did not change."""

    version: str = VERSION
    session_id: str | UnsetType = field(default=UNSET, name="SessionID")
    err_message: str | None = None
    login_finished: dict[str, Any] | None = None
    state: int | None = None
    prefs: dict[str, Any] | None = None
    self_change: dict[str, Any] | UnsetType | None = UNSET
    initial_status: Status | UnsetType | None = UNSET
    net_map: dict[str, Any] | None = None
    peers_changed: tuple[dict[str, Any], ...] | UnsetType | None = UNSET
    peers_removed: tuple[int, ...] | UnsetType | None = UNSET
    user_profiles: dict[int, UserProfile] | UnsetType | None = UNSET
    engine: Engine | None = None
    browse_to_url: str | None = field(default=None, name="BrowseToURL")
    drive_shares: tuple[dict[str, Any], ...] | None = None
    health: dict[str, Any] | UnsetType | None = UNSET


class Problem(Struct, frozen=True):
    """``{"Error": …}``: a refusal in JSON; empty is "fine"."""

    error: str = field(default="", name="Error")


def encode(message: Struct) -> bytes:
    """Compact JSON."""
    return json.encode(message)


def decode(data: bytes, kind: type[T]) -> T:
    """Parse what the daemon sent; unknown fields are ignored.

    Raises:
        ValueError: it is not what was expected.
    """
    try:
        return json.decode(data, type=kind)
    except DecodeError as error:
        msg = f"the daemon's answer makes no sense: {error}"
        raise ValueError(msg) from None
