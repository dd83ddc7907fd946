"""What the host's firewall should know, from prefs."""

from ipaddress import ip_network

from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.tailcfg.node import Node
from tailnet.platform.interface import (
    ExitGuard,
    FirewallConfig,
    Guard,
    NetfilterMode,
    RouterConfig,
)

# What a local network is made of; the guard must know before there are links.
PRIVATE: frozenset[IPNetwork] = frozenset(
    {
        ip_network("10.0.0.0/8"),
        ip_network("172.16.0.0/12"),
        ip_network("192.168.0.0/16"),
        ip_network("169.254.0.0/16"),
        ip_network("224.0.0.0/24"),
        ip_network("fc00::/7"),
        ip_network("fe80::/10"),
        ip_network("ff02::/16"),
    }
)


def guard(prefs: Prefs) -> Guard | None:
    """The kill switch."""
    if not prefs.kill_switch:
        return None
    return Guard(PRIVATE if prefs.exit_node_allow_lan_access else frozenset())


def firewall(prefs: Prefs, self_node: Node, router: RouterConfig) -> FirewallConfig:
    """Without the ports of our sockets."""
    return FirewallConfig(
        mode=NetfilterMode(prefs.netfilter_mode),
        addrs=frozenset(a.ip for a in router.local_addrs),
        snat=not prefs.no_snat,
        stateful=prefs.no_stateful_filtering is False,
        guard=guard(prefs),
        exit_guard=ExitGuard(lan=router.lan_direct) if router.leak_guard else None,
        cgnat_drop="disable-linux-cgnat-drop-rule" not in (self_node.cap_map or {}),
    )
