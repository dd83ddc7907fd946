"""This node and its peers.

Source: tailscale ipn/ipnstate/ipnstate.go.
"""

from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from tailnet.agent.localapi.schema.basics import VERSION, ZERO_TIME
from tailnet.agent.localapi.schema.identity import UserProfile

STATES = (
    "NoState",
    "InUseOtherUser",
    "NeedsLogin",
    "NeedsMachineAuth",
    "Stopped",
    "Starting",
    "Running",
)


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
