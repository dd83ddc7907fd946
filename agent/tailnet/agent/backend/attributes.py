"""Node attributes: switches that control sets for one node, in its own ``CapMap``.

Only those of transport, routes and choice; docs/protocol/control.md has all, and who reads them.

Source: tailscale tailcfg/tailcfg.go, NodeCapability; control/controlknobs/controlknobs.go.
"""

from typing import NamedTuple

from tailnet.agent.tailcfg.node import Node

NO_UPNP = "debug-disable-upnp"
NO_RELAY_CLIENT = "disable-relay-client"
TRAFFIC_STEERING = "traffic-steering"
SUGGESTED = "suggest-exit-node"  # of a peer


class Attributes(NamedTuple):
    """What they make of this node.

    Attributes:
        one_route: one route for all addresses of peers, ``one-cgnat?v=true``; ``?v=false`` is what
            is done anyway.
        only_relays: the network lets nothing but HTTPS out, ``only-tcp-443``: no UDP leaves, be it
            to peers, to measure, or to ask the gateway for a port.
        random_port: the UDP port is not the one that the user chose, ``randomize-client-port``.
        no_deltas: every change of the network map is a whole one, ``disable-delta-updates``.
        looks_for_portals: unless ``disable-captive-portal-detection``.
        uses_upnp: unless ``debug-disable-upnp``.
        probes_mtu: the largest packet that each path takes is looked for, ``peer-mtu-enable``.
        uses_relays: peer relays, unless ``disable-relay-client``.
    """

    one_route: bool = False
    only_relays: bool = False
    random_port: bool = False
    no_deltas: bool = False
    looks_for_portals: bool = True
    uses_upnp: bool = True
    probes_mtu: bool = False
    uses_relays: bool = True


USUAL = Attributes()


def attributes_of(node: Node) -> Attributes:
    """Of this node."""
    caps = node.cap_map or {}
    return Attributes(
        one_route="one-cgnat?v=true" in caps,
        only_relays="only-tcp-443" in caps,
        random_port="randomize-client-port" in caps,
        no_deltas="disable-delta-updates" in caps,
        looks_for_portals="disable-captive-portal-detection" not in caps,
        uses_upnp=NO_UPNP not in caps,
        probes_mtu="peer-mtu-enable" in caps,
        uses_relays=NO_RELAY_CLIENT not in caps,
    )
