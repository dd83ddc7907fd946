"""The lines of ``watch-ipn-bus``, and the bits of its mask.

Source: tailscale ipn/backend.go, Notify.
"""

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from tailnet.agent.localapi.schema.basics import VERSION, ZERO_TIME
from tailnet.agent.localapi.schema.identity import UserProfile
from tailnet.agent.localapi.schema.status import Status

# Bits of watch-ipn-bus?mask=.
WATCH_ENGINE_UPDATES = 1
INITIAL_STATE = 2
INITIAL_PREFS = 4
INITIAL_NETMAP = 8
NO_PRIVATE_KEYS = 16
INITIAL_HEALTH = 128
RATE_LIMIT = 256
HEALTH_ACTIONS = 512
INITIAL_SUGGESTED_EXIT_NODE = 1024
PEER_CHANGES = 4096
NO_NETMAP = 8192
INITIAL_STATUS = 16384
PEER_PATCHES = 32768
IN_PROCESS_NO_DISCONNECT = 65536
PEER_WIREGUARD_STATE = 262144

FELL_BEHIND = "IPN bus consumer fell behind; closing watch"


class Engine(Struct, frozen=True, kw_only=True):
    """``Notify.Engine``: bytes so far, peers with a session, connected relays."""

    r_bytes: int = field(default=0, name="RBytes")
    w_bytes: int = field(default=0, name="WBytes")
    num_live: int = field(default=0, name="NumLive")
    live_derps: int = field(default=0, name="LiveDERPs")
    live_peers: dict[str, Any] = field(default_factory=dict, name="LivePeers")


class PeerSession(Struct, frozen=True, kw_only=True):
    """``Notify.PeerState``: a peer's WireGuard session, and since when it is so."""

    state: Literal["none", "handshake", "established", "expired"] = field(
        default="none", name="PeerWireGuardState"
    )
    at: datetime = field(default=ZERO_TIME, name="PeerWireGuardStateAt")


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
    peer_state: dict[str, PeerSession] | UnsetType | None = UNSET
    engine: Engine | None = None
    browse_to_url: str | None = field(default=None, name="BrowseToURL")
    drive_shares: tuple[dict[str, Any], ...] | None = None
    health: dict[str, Any] | UnsetType | None = UNSET
    suggested_exit_node: str | UnsetType | None = UNSET
