"""Changing one peer.

Source: tailscale control/controlclient/map.go, patchPeer and removeUnwantedDiscoUpdates.
"""

from datetime import datetime
from typing import Any

from msgspec.structs import replace

from tailnet.agent.tailcfg.codec import instant
from tailnet.agent.tailcfg.node import Node, PeerChange


def apply_patch(peer: Node, patch: PeerChange) -> Node:
    """``peer`` with the fields that ``patch`` has.

    A patch that carries the disco key of a peer that is offline, and is no newer than what we
    know, is ignored whole: the peer may have told us a newer key itself.
    """
    if (
        patch.disco_key is not None
        and patch.online is False
        and not _is_newer(patch.last_seen, peer.last_seen)
    ):
        return peer
    fields: dict[str, Any] = {
        name: value
        for name in (
            "cap_map",
            "endpoints",
            "key",
            "disco_key",
            "online",
            "last_seen",
            "key_expiry",
        )
        if (value := getattr(patch, name)) is not None
    }
    if patch.derp_region:
        fields |= {"home_derp": patch.derp_region, "derp": ""}
    if patch.cap:
        fields["cap"] = patch.cap
    return replace(peer, **fields)


def keep_newer_disco(old: Node | None, new: Node) -> Node:
    """``new``, but with the disco key of ``old`` when only that one can be current."""
    if (
        old is None
        or new.online
        or new.disco_key == old.disco_key
        or _is_newer(new.last_seen, old.last_seen)
    ):
        return new
    return replace(new, disco_key=old.disco_key, last_seen=old.last_seen)


def _is_newer(new: datetime | None, old: datetime | None) -> bool:
    """True unless ``old`` is known and ``new`` is not after it."""
    was, now = instant(old), instant(new)
    return was is None or (now is not None and now > was)
