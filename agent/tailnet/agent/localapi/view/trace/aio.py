"""A ``Node`` as a trace sees it."""

from tailnet.agent import clock
from tailnet.agent.backend.aio import Node
from tailnet.agent.filter.flows import Flow as Refused
from tailnet.agent.keys import PeerId
from tailnet.agent.trace.facts import PROTOCOLS, Facts, Flow, PeerFacts

NAMES = {number: name for name, number in PROTOCOLS.items()}


def facts_of(node: Node) -> Facts:
    """How everything stands at this moment."""

    def about(peer: PeerId) -> PeerFacts:
        met = node.tunnel.session(peer).last_handshake
        refused = tuple(
            f"{_flow(one.flow)}: {one.reason}, {node.age_of(one.at):.0f} s ago"
            for one in node.tunnel.diagnosis.rejections.latest
            if one.peer == peer
        )
        ways = node.tunnel.magicsock.report(peer)
        return PeerFacts(node.age_of(met) if met else None, ways, refused)

    return Facts(
        state=node.state.label,
        warnings=tuple(warning.text for warning in node.warnings),
        prefs=node.account.prefs,
        netmap=node.netmap,
        plan=node.plan,
        about=about,
        wall=clock.wall(),
    )


def _flow(flow: Refused) -> str:
    name = NAMES.get(flow.proto)
    if name is None:
        return f"protocol {flow.proto}"
    return str(Flow(name, flow.dst_port if name != "icmp" else 0))
