"""The map poll: ``POST /machine/map``.

Source: tailscale tailcfg/tailcfg.go, MapRequest and MapResponse.
"""

from datetime import datetime
from typing import Any

from msgspec import field
from msgspec.structs import replace

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPublic, NodePublic
from tailnet.agent.slices import SLICE, Steps, finish, sliced
from tailnet.agent.tailcfg.codec import (
    Struct,
    decode_untrusted,
    encode,
    split_list_untrusted,
    split_object_untrusted,
)
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.node import Hostinfo, Node, NodeID, PeerChange, UserProfile

ENDPOINT_LOCAL = 1
ENDPOINT_STUN = 2
ENDPOINT_PORT_MAPPED = 3
ENDPOINT_STUN4_LOCAL_PORT = 4
ENDPOINT_EXPLICIT = 5


class MapRequest(Struct, frozen=True, kw_only=True):
    """A streaming poll (``stream``), or a lite update (``omit_peers`` without ``stream``)."""

    version: int
    compress: str = ""
    keep_alive: bool = False
    node_key: NodePublic
    disco_key: DiscoPublic
    stream: bool = False
    map_session_handle: str = ""
    map_session_seq: int = 0
    hostinfo: Hostinfo
    endpoints: tuple[str, ...] | None = None
    endpoint_types: tuple[int, ...] | None = None
    omit_peers: bool = False
    read_only: bool = False


class PingRequest(Struct, frozen=True):
    """Control asks this node to ping, or to answer a c2n request."""

    url: str = field(default="", name="URL")
    url_is_noise: bool = field(default=False, name="URLIsNoise")
    log: bool = False
    types: str = ""
    ip: str = field(default="", name="IP")
    payload: str | None = None


class PingResponse(Struct, frozen=True):
    """What became of one ping that control asked for."""

    type: str
    ip: str = field(default="", name="IP")
    node_ip: str = field(default="", name="NodeIP")
    node_name: str = ""
    err: str = ""
    latency_seconds: float = 0.0
    endpoint: str = ""
    peer_relay: str = ""
    derp_region_id: int = field(default=0, name="DERPRegionID")
    derp_region_code: str = field(default="", name="DERPRegionCode")
    peer_api_port: int = field(default=0, name="PeerAPIPort")
    peer_api_url: str = field(default="", name="PeerAPIURL")
    is_local_ip: bool = field(default=False, name="IsLocalIP")


class DisplayMessageAction(Struct, frozen=True):
    """What the user may do about a message: a page, and what to call the way there."""

    url: str = field(default="", name="URL")
    label: str = ""


class DisplayMessage(Struct, frozen=True):
    """A health message for the user."""

    title: str = ""
    text: str = ""
    severity: str = ""
    impacts_connectivity: bool = False
    primary_action: DisplayMessageAction | None = None


class Debug(Struct, frozen=True):
    """What is left of control's debug knobs."""

    sleep_seconds: float = 0.0
    disable_log_tail: bool = False
    exit: int | None = None


class ControlDialPlan(Struct, frozen=True):
    """Other ways to reach control; kept as it came, used by a later issue's dialler."""

    candidates: tuple[dict[str, Any], ...] | None = None


class MapResponse(Struct, frozen=True):
    """One message of the map stream; an absent field is unchanged."""

    map_session_handle: str = ""
    seq: int = 0
    keep_alive: bool = False
    ping_request: PingRequest | None = None
    pop_browser_url: str = field(default="", name="PopBrowserURL")
    node: Node | None = None
    derp_map: DERPMap | None = field(default=None, name="DERPMap")
    peers: tuple[Node, ...] | None = None
    peers_changed: tuple[Node, ...] | None = None
    peers_removed: tuple[NodeID, ...] | None = None
    peers_changed_patch: tuple[PeerChange, ...] | None = None
    peer_seen_change: dict[NodeID, bool] | None = None
    online_change: dict[NodeID, bool] | None = None
    dns_config: DNSConfig | None = field(default=None, name="DNSConfig")
    domain: str = ""
    collect_services: bool | None = None
    packet_filter: tuple[FilterRule, ...] | None = None
    packet_filters: dict[str, tuple[FilterRule, ...] | None] | None = None
    user_profiles: tuple[UserProfile, ...] | None = None
    health: tuple[str, ...] | None = None
    display_messages: dict[str, DisplayMessage | None] | None = None
    ssh_policy: dict[str, Any] | None = field(default=None, name="SSHPolicy")
    control_time: datetime | None = None
    debug: Debug | None = None
    control_dial_plan: ControlDialPlan | None = None


AT_ONCE = 256 << 10  # bytes of JSON that are parsed in one piece, in 10 ms
LISTS: dict[str, tuple[str, type[Struct]]] = {
    "Peers": ("peers", Node),
    "PeersChanged": ("peers_changed", Node),
    "PeersChangedPatch": ("peers_changed_patch", PeerChange),
    "UserProfiles": ("user_profiles", UserProfile),
    "PacketFilter": ("packet_filter", FilterRule),
}


def decode_map_untrusted(data: bytes) -> tuple[MapResponse, int]:
    """Parse a map message; one malformed peer, patch, user or rule does not spoil the rest.

    Returns:
        The message, and how many entries were left out of its lists.

    Raises:
        BadPacket: not JSON, or malformed outside of those lists.
    """
    return finish(decode_map_slices_untrusted(data))


def decode_map_slices_untrusted(data: bytes) -> Steps[tuple[MapResponse, int]]:
    """:func:`decode_map_untrusted` in slices: the lists of a large message entry by entry."""
    if len(data) <= AT_ONCE:
        try:
            return decode_untrusted(data, MapResponse), 0
        except BadPacket:
            pass  # perhaps only one of its entries is bad
    rest = split_object_untrusted(data)
    if len(data) > AT_ONCE:
        yield
    lists: dict[str, Any] = {}
    dropped = 0
    for name, (attribute, kind) in LISTS.items():
        items = split_list_untrusted(rest[name]) if name in rest else None
        if items is None:
            continue
        del rest[name]
        good = []
        for part in sliced(items):
            for item in part:
                try:
                    good.append(decode_untrusted(item, kind))
                except BadPacket:
                    dropped += 1
            if len(part) == SLICE:
                yield
        lists[attribute] = tuple(good)
    return replace(decode_untrusted(encode(rest), MapResponse), **lists), dropped
