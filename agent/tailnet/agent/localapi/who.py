"""Whose address that is, and what the rules grant it: ``whois`` and its relatives.

Source: tailscale ipn/localapi/localapi.go, serveWhoIs; ipn/ipnlocal/local.go, WhoIs.
"""

from ipaddress import ip_address

from tailnet.agent.addr import IPAddress
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.errors import UserError
from tailnet.agent.filter.grants import Grants, granted
from tailnet.agent.tailcfg.node import Node, UserProfile

MAX_QUESTION = 100  # characters
KEY = "nodekey:"


def parse_address(text: str) -> IPAddress | str:
    """``IP``, ``IP:port`` or ``nodekey:…``; the port says nothing, since addresses have one owner.

    Raises:
        UserError: something else.
    """
    host, _, port = text.rpartition(":")
    if text.startswith(KEY) and len(text) <= MAX_QUESTION:
        return text
    for candidate in (text, host.strip("[]") if port.isdecimal() else ""):
        try:
            return ip_address(candidate)
        except ValueError:
            continue
    msg = "invalid 'addr' parameter"
    raise UserError(msg)


def find(netmap: NetworkMap, who: IPAddress | str) -> Node | None:
    """The node that has an address or a key."""
    if isinstance(who, str):
        return next((node for node in netmap.nodes() if str(node.key) == who), None)
    return netmap.owner_of(who)


def owner(netmap: NetworkMap, node: Node) -> UserProfile:
    """The person; of a tagged node one that is called so."""
    return netmap.user_profiles.get(node.user) or UserProfile(id=node.user)


def grants_of(netmap: NetworkMap, node: Node) -> Grants:
    """What the rules let ``node`` do at this one, by any pair of their addresses of one family."""
    out: Grants = {}
    mine = netmap.self_node.ips()
    for source in node.ips():
        target = next((ip for ip in mine if ip.version == source.version), None)
        if target is not None:
            for name, values in granted(
                netmap.packet_filter, source, target, netmap.with_capability
            ).items():
                out.setdefault(name, values)
    return out


def describe(netmap: NetworkMap, node: Node) -> dict[str, object]:
    """``{Node, UserProfile, CapMap}``."""
    named = {} if netmap.self_node is node else grants_of(netmap, node)
    return {"Node": node, "UserProfile": owner(netmap, node), "CapMap": named}
