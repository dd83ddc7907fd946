"""Which exit node is suggested."""

from tailnet.agent.backend.exitnode import suggest
from tailnet.agent.backend.plan import Plan
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.node import Node


def suggested(netmap: NetworkMap | None, plan: Plan | None) -> Node | None:
    """What ``auto:any`` would be now: the one in use, unless another one is better."""
    if netmap is None:
        return None
    best = suggest(netmap, None if plan is None else plan.exit_node)
    return None if best is None else netmap.peers[best]
