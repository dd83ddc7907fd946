"""Ways to peers: pings, paths, and peers for which this machine relays.

Source: tailscale ipn/ipnstate/ipnstate.go, PingResult; the paths are ours.
"""

from msgspec import UNSET, Struct, UnsetType, field


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
    in seconds; ``port_mapped``: the peer reaches us through the port that our router keeps open;
    ``candidates`` and ``history`` (oldest first) are empty in the list of all.
    """

    id: str = field(default="", name="ID")
    name: str = ""
    policy: str = "auto"
    kind: str = "none"
    addr: str = ""
    relay: str = ""
    latency_seconds: float | None = None
    trusted_for: float | None = None
    port_mapped: bool = False
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
