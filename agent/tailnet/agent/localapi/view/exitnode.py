"""Which exit node is suggested."""

from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.exitnode import suggest
from tailnet.agent.tailcfg.node import Node as PeerNode


def suggested(node: Node) -> PeerNode | None:
    """What ``auto:any`` would be now: the one in use, unless another one is better."""
    if node.netmap is None:
        return None
    best = suggest(node.netmap, None if node.plan is None else node.plan.exit_node)
    return None if best is None else node.netmap.peers[best]
