"""A network map as upstream's ``NetMap``: what clients of its bus and ``debug netmap`` read.

Source: tailscale types/netmap/netmap.go, NetworkMap.
"""

from typing import Any

import msgspec

from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.codec import enc_hook

Tree = dict[str, Any]


def netmap_tree(netmap: NetworkMap) -> Tree:
    """The whole map; no private key is in it."""
    me = netmap.self_node
    return _plain(
        {
            "SelfNode": me,
            "NodeKey": me.key,
            "MachineKey": me.machine,
            "Peers": list(netmap.peers.values()),
            "DNS": netmap.dns,
            "PacketFilterRules": netmap.packet_filter,
            "DERPMap": netmap.derp_map,
            "Domain": netmap.domain,
            "UserProfiles": {str(int(n)): user for n, user in netmap.user_profiles.items()},
            "TKAEnabled": False,
        }
    )


def node_tree(node: object) -> Tree:
    """One node, for ``SelfChange`` and ``PeersChanged``."""
    return _plain(node)


def _plain(value: object) -> Tree:
    tree: Tree = msgspec.to_builtins(value, enc_hook=enc_hook, str_keys=True)
    return tree
