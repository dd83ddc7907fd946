"""Which peer is the exit node, and what an exit node does not give away.

Source: tailscale ipn/ipnlocal/local.go, resolveExitNodeInPrefsLocked, shrinkDefaultRoute.
"""

from collections.abc import Iterable
from hashlib import blake2b
from ipaddress import ip_address, ip_network

from tailnet.agent.addr import CGNAT, ULA, IPNetwork
from tailnet.agent.backend.attributes import SUGGESTED, TRAFFIC_STEERING
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.node import Node, NodeID

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
# Of nobody else but this host, whatever its links are.
_OURS = tuple(map(ip_network, ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::1/128")))
_OURS += tuple(map(ip_network, ("fe80::/10", "ff00::/8")))


def find_exit_node(prefs: Prefs, netmap: NetworkMap, last: NodeID | None = None) -> NodeID | None:
    """The peer that the user means; ``None``: none, or it is not there, or offers nothing.

    An automatic one is online if any is, and near: of our home region if any is.

    Args:
        prefs: validated.
        netmap: the current view.
        last: the one in use, which an automatic one stays unless another one is better.
    """
    if not prefs.wants_exit_node:
        return None
    wanted, ip = prefs.exit_node_id, prefs.exit_node_ip
    if prefs.auto_exit_node and not wanted and not ip:
        return suggest(netmap, last)
    address = ip_address(ip) if ip else None

    def is_meant(node: Node) -> bool:
        named = wanted and wanted in {node.stable_id, node.base_name, node.name.rstrip(".")}
        return bool(named) or (address is not None and address in node.ips())

    return min((node.id for node in netmap.exit_nodes() if is_meant(node)), default=None)


def suggest(netmap: NetworkMap, last: NodeID | None = None) -> NodeID | None:
    """The exit node that serves best; ``None``: there is none.

    Among equals it is the ``last`` one, so that connections outlive what comes and goes beside it;
    else each machine has an order of its own, so that not all of them crowd at one exit node.

    Source: tailscale ipn/ipnlocal/local.go, suggestExitNode, randomNode.
    """
    home, me = netmap.self_node.home_region, netmap.self_node.stable_id
    steered = TRAFFIC_STEERING in (netmap.self_node.cap_map or {})

    def rank(node: Node) -> tuple[bool, int, bool, bool, bytes]:
        weight = node.hostinfo.priority if steered and node.hostinfo is not None else 0
        lot = blake2b(f"{me} {node.stable_id}".encode(), digest_size=8).digest()
        return node.online is False, -weight, node.home_region != home, node.id != last, lot

    options = [node for node in netmap.exit_nodes() if not node.expired]
    if steered:  # control says who may be chosen, and how gladly
        options = [node for node in options if SUGGESTED in (node.cap_map or {})]
    best = min(options, key=rank, default=None)
    return best.id if best is not None else None


def without_ours(local: Iterable[IPNetwork], near: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """Destinations that peers may reach through us: an exit node leads to the internet alone.

    Args:
        local: as advertised, with our own addresses.
        near: prefixes of this host's links; peers reach them only by a subnet route of their own.
    """
    out: list[IPNetwork] = []
    for net in local:
        out += _shrunk(net, (*_OURS, CGNAT, ULA, *near)) if net.prefixlen == 0 else [net]
    return tuple(dict.fromkeys(out))


def _shrunk(whole: IPNetwork, holes: Iterable[IPNetwork]) -> list[IPNetwork]:
    parts = [whole]
    for hole in holes:
        parts = [left for part in parts for left in _minus(part, hole)]
    return parts


def _minus(part: IPNetwork, hole: IPNetwork) -> list[IPNetwork]:
    """What is left of ``part``: halves of halves, down to the hole."""
    if part.version != hole.version or not (_within(hole, part) or _within(part, hole)):
        return [part]
    if part.prefixlen >= hole.prefixlen:
        return []
    low, high = part.subnets()
    return [*_minus(low, hole), *_minus(high, hole)]


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer
