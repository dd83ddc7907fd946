"""Parts of upstream's JSON that several answers share."""

from datetime import datetime

import msgspec
from msgspec import UNSET

from tailnet.agent.backend.health import HealthWarning
from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.backend.prefs import Prefs, to_json
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.localapi.schema.identity import UserProfile
from tailnet.agent.localapi.schema.paths import PeerRelayClient, PeerRelaySession
from tailnet.agent.relay.server import SessionInfo
from tailnet.agent.tailcfg.node import Node

NO_KEY = "0" * 64


def expiry(node: Node) -> datetime | msgspec.UnsetType:
    """When its key expires; absent where it never does."""
    return node.key_expiry if node.key_expiry and node.key_expiry.year > 1 else UNSET


def prefs_tree(prefs: Prefs, profile: LoginProfile) -> dict[str, object]:
    """Upstream's ``Prefs``: with the account in ``Config``, where keys would be, but none are."""
    config = None
    if profile.node_id or profile.user:
        config = {
            "PrivateNodeKey": f"privkey:{NO_KEY}",
            "OldPrivateNodeKey": f"privkey:{NO_KEY}",
            "UserProfile": msgspec.to_builtins(profile.user_profile),
            "NetworkLockKey": f"nlpriv:{NO_KEY * 2}",
            "NodeID": profile.node_id,
        }
    return {**to_json(prefs), "Config": config}


def suffix(name: str) -> str:
    """A node's MagicDNS suffix, from its whole name."""
    return name.partition(".")[2].rstrip(".")


def region_code(netmap: NetworkMap, region_id: int) -> str:
    """A region's short name; empty if the map has none of that id."""
    region = netmap.derp_map.region(region_id)
    return region.region_code if region else ""


def users(netmap: NetworkMap) -> dict[int, UserProfile]:
    """Who owns the nodes of a map."""
    return {
        int(user.id): UserProfile(
            id=int(user.id),
            login_name=user.login_name,
            display_name=user.display_name,
            profile_pic_url=user.profile_pic_url,
        )
        for user in netmap.user_profiles.values()
    }


def health(warnings: tuple[HealthWarning, ...]) -> dict[str, object]:
    """In Go's shape, with actions: a bus takes them out for those who do not ask for them.

    Source: tailscale health/state.go, State and UnhealthyState.
    """
    return {"Warnings": {warning.what.code: _warning(warning) for warning in warnings}}


def _warning(warning: HealthWarning) -> dict[str, object]:
    remedy = warning.what.remedy
    tree: dict[str, object] = {
        "WarnableCode": warning.what.code,
        "Severity": str(warning.what.severity),
        "Title": warning.what.title,
        "Text": warning.text if remedy is None else warning.text.removesuffix(f" {remedy}"),
        "BrokenSince": warning.since,
        "DependsOn": list(warning.what.depends_on),
        "ImpactsConnectivity": warning.what.connectivity,
    }
    if remedy is not None:
        tree["PrimaryAction"] = {"URL": remedy.url, "Label": remedy.label}
    return tree


def relay_session(about: SessionInfo) -> PeerRelaySession:
    """A session of our peer relay."""
    ends = [
        PeerRelayClient(
            endpoint=str(about.bound[end] or ""),
            short_disco=about.clients[end].short,
            packets_tx=about.packets[end],
            bytes_tx=about.bytes[end],
        )
        for end in (0, 1)
    ]
    return PeerRelaySession(vni=about.vni, client1=ends[0], client2=ends[1])
