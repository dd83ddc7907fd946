"""The network map as the control server reads it when it debugs a node.

Source: tailscale types/netmap/netmap.go, NetworkMap; tailcfg/c2ntypes.go, C2NDebugNetmapResponse.
"""

from collections.abc import Collection
from datetime import datetime

import msgspec

from tailnet.agent.control.fold import Folder
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.mapping import decode_map_untrusted


def netmap_json(netmap: NetworkMap, omit: Collection[str] = ()) -> bytes:
    """The map as JSON, without the fields named in ``omit``; no private key is part of it."""
    tree: dict[str, object] = {
        "SelfNode": netmap.self_node,
        "NodeKey": netmap.self_node.key,
        "Peers": netmap.in_order(),
        "DNS": netmap.dns,
        "PacketFilterRules": netmap.packet_filter,
        "CollectServices": netmap.collect_services,
        "DERPMap": netmap.derp_map,
        "DisplayMessages": netmap.display_messages,
        "Domain": netmap.domain,
        "UserProfiles": netmap.user_profiles,
    }
    return encode({name: value for name, value in tree.items() if name not in omit})


def answer_untrusted(
    current: NetworkMap | None, omit: Collection[str], candidate: bytes | None, wall: datetime
) -> bytes:
    """The map in use, and what ``candidate``, a first map message, would make of an empty one.

    Raises:
        BadPacket: the candidate is no such message.
    """
    tree: dict[str, msgspec.Raw] = {}
    if current is not None:
        tree["Current"] = msgspec.Raw(netmap_json(current, omit))
    if candidate is not None:
        folder = Folder()
        _ = folder.fold(decode_map_untrusted(candidate)[0], wall)
        tree["Candidate"] = msgspec.Raw(netmap_json(folder.netmap(wall), omit))
    return msgspec.json.encode(tree)
