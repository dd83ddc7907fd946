"""From this machine to an address: route, peer, key, path, session, and the answer's way back."""

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

from tailnet.agent.addr import SERVICE_V4, SERVICE_V6, IPAddress, unmap_via
from tailnet.agent.backend.exitnode import EVERYTHING
from tailnet.agent.backend.plan import Plan
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.node import Node
from tailnet.agent.trace import common
from tailnet.agent.trace.facts import Facts, Flow, handle_of, taker
from tailnet.agent.trace.steps import Stage, Step, Trace, follow, note, passes, stop


def outbound(facts: Facts, dst: IPAddress, flow: Flow) -> Trace:
    """Follow a packet to ``dst``, to its end or to what stops it."""
    return follow(_walk(facts, dst, flow))


def _walk(facts: Facts, dst: IPAddress, flow: Flow) -> Iterator[Step]:
    yield common.state(facts)
    plan, netmap = facts.plan, facts.netmap
    if plan is None or netmap is None:
        return
    if dst in netmap.self_node.ips():
        yield passes(Stage.ROUTE, f"{dst} is this machine: the kernel delivers it, no peer sees it")
        return
    if dst in (SERVICE_V4, SERVICE_V6):
        yield passes(Stage.ROUTE, f"{dst} is this daemon's own service address")
        return
    owner = netmap.owner_of(dst)
    if owner is not None:
        yield common.keys(facts, owner, handle_of(plan, owner))
    yield _route(facts, plan, dst)
    found = taker(plan, dst)
    if found is None:
        yield _nobody(netmap, plan, dst)
        return
    handle, prefix = found
    node = plan.peers[handle].node
    if owner is None:
        via = "the exit node in use" if prefix.endswith("/0") else f"it is the router of {prefix}"
        yield passes(Stage.NODE, f"packets to {dst} go to {node.base_name}: {via}{_at_site(dst)}")
        yield common.keys(facts, node, handle)
    elif owner.id != node.id:
        yield stop(
            Stage.NODE,
            f"{dst} belongs to {owner.base_name}, but {node.base_name} takes it by {prefix}",
        )
    yield common.path(facts, plan, node, handle)
    yield common.session(facts, node, handle)
    yield _their_filter(node, flow, facts.about(handle).rejected)
    yield passes(Stage.ANSWER, "answers to flows of this machine pass its own filter")


def _route(facts: Facts, plan: Plan, dst: IPAddress) -> Step:
    router = plan.router
    lead = [net for net in router.routes if net.version == dst.version and dst in net]
    if not lead:
        return _no_route(facts, dst)
    best = max(lead, key=lambda net: net.prefixlen)
    if best in EVERYTHING:
        if plan.exit_node_missing:
            return stop(
                Stage.ROUTE,
                f"{dst} would go to an exit node that is not there, so nothing leaves",
                "choose another with: tnet exit-node list; none with: tnet set --exit-node=",
            )
        if router.lan_direct:
            return passes(
                Stage.ROUTE, f"{dst} goes to the exit node, unless a link of this host has it"
            )
        return passes(Stage.ROUTE, f"{dst} goes to the exit node, as everything else")
    return passes(Stage.ROUTE, f"{dst} goes into the tunnel, by the route {best}")


def _no_route(facts: Facts, dst: IPAddress) -> Step:
    """It leaves by the host's own routes, or not at all; perhaps a router was not accepted."""
    offers = [
        f"{node.base_name} offers {net}"
        for node in (facts.netmap.peers.values() if facts.netmap is not None else ())
        for net in node.allowed_prefixes()
        if net.prefixlen and net.version == dst.version and dst in net
    ]
    if offers:
        return stop(
            Stage.ROUTE,
            f"{dst} does not go into the tunnel: a router offers it, but is not accepted here",
            *offers,
            "accept its routes with: tnet set --accept-routes",
        )
    return stop(
        Stage.ROUTE,
        f"{dst} does not go into the tunnel: no node has it and no router offers it; "
        "the host's own routes decide",
    )


def _at_site(dst: IPAddress) -> str:
    """What is behind an address that stands for one of a site (4via6)."""
    known = unmap_via(IPv6Network(dst)) if isinstance(dst, IPv6Address) else None
    return f", which asks {known[1].network_address} of site {known[0]}" if known else ""


def _nobody(netmap: NetworkMap, plan: Plan, dst: IPAddress) -> Step:
    mine = next((net for net in plan.local if net.version == dst.version and dst in net), None)
    if mine is not None and mine.prefixlen:
        return stop(Stage.NODE, f"this machine itself is the router of {mine}{_at_site(dst)}")
    return stop(Stage.NODE, f"nobody in {netmap.domain or 'the tailnet'} has {dst} now")


def _their_filter(node: Node, flow: Flow, rejected: tuple[str, ...]) -> Step:
    name = node.base_name
    about = [text for text in rejected if not flow.port or text.startswith(f"{flow}:")]
    if about:
        return note(Stage.FILTER, f"{name} has refused such packets of ours lately", *about[-3:])
    return passes(
        Stage.FILTER,
        f"whether {name} lets {flow} in is its own decision; it has not refused lately",
    )
