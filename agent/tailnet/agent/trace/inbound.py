"""From a peer to this machine: its key, its source address, our filter, and what is behind it."""

from collections.abc import Iterator

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.plan import Plan
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.filter.rules import Filter, compile_filter
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange
from tailnet.agent.tailcfg.node import Node
from tailnet.agent.trace import common
from tailnet.agent.trace.facts import Facts, Flow, Packet, handle_of
from tailnet.agent.trace.steps import Stage, Step, Trace, follow, passes, stop

NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
MAX_SHOWN = 4  # rules that come close, and sources of one


def inbound(facts: Facts, source: Node, dst: IPAddress, flow: Flow) -> Trace:
    """Follow a packet of ``source`` to ``dst``, an address of this machine or behind it."""
    return follow(_walk(facts, source, dst, flow))


def _walk(facts: Facts, source: Node, dst: IPAddress, flow: Flow) -> Iterator[Step]:
    yield common.state(facts)
    plan, netmap = facts.plan, facts.netmap
    if plan is None or netmap is None:
        return
    handle = handle_of(plan, source)
    yield common.keys(facts, source, handle)
    src = next((ip for ip in source.ips() if ip.version == dst.version), None)
    if src is None or handle is None:
        yield stop(Stage.NODE, f"{source.base_name} has no IPv{dst.version} address to come from")
        return
    yield _target(plan, netmap, dst)
    yield _closed(facts, plan, netmap) or _rules(plan.filter, netmap, Packet(src, dst, flow))
    yield common.path(facts, plan, source, handle)
    yield common.session(facts, source, handle)
    yield passes(Stage.ANSWER, f"answers go back to {source.base_name}, which has {src}")


def _target(plan: Plan, netmap: NetworkMap, dst: IPAddress) -> Step:
    if dst in netmap.self_node.ips():
        return passes(Stage.ROUTE, f"{dst} is this machine")
    if not any(net.version == dst.version and dst in net for net in plan.local):
        return stop(
            Stage.ROUTE,
            f"{dst} is neither this machine nor in a route that it advertises",
            "advertise one with: tnet set --advertise-routes=PREFIX",
        )
    approved = [net for net in netmap.self_node.allowed_prefixes() if dst in net]
    if not approved:
        return stop(
            Stage.ROUTE,
            f"this machine advertises a route to {dst}, but nobody has approved it",
            "an administrator of the tailnet must enable the route",
        )
    best = max(approved, key=lambda net: net.prefixlen)
    return passes(Stage.ROUTE, f"this machine is the router of {best}")


def _closed(facts: Facts, plan: Plan, netmap: NetworkMap) -> Step | None:
    """Whether nothing is let in at all."""
    if facts.prefs.shields_up:
        return stop(
            Stage.FILTER,
            "shields are up: nobody may begin anything here",
            "put them down with: tnet set --shields-up=false",
        )
    if plan.filter_refused:
        return stop(Stage.FILTER, "this version cannot read the tailnet's rules: nothing is let in")
    if netmap.packet_filter is None:
        return stop(Stage.FILTER, "the control server has sent no rules yet: nothing is let in")
    return None


def _rules(in_force: Filter, netmap: NetworkMap, packet: Packet) -> Step:
    rules, (src, dst, flow) = netmap.packet_filter or (), packet
    number = deciding(netmap, packet)
    if number is not None:
        if not admits(in_force, packet):
            says = f"rule {number + 1} would let {flow} in, but {src} is barred from this machine"
            return stop(Stage.FILTER, says, rule_text(rules[number]))
        says = f"rule {number + 1} of {len(rules)} lets {flow} in"
        return passes(Stage.FILTER, says, rule_text(rules[number]))
    close = [
        f"rule {n}: {rule_text(rule)}"
        for n, rule in enumerate(rules, 1)
        if _alone(netmap, rule).allows_addresses(dst.version, int(src), int(dst))
    ]
    if close:
        says = f"no rule lets {flow} in from {src}; these let it reach something else here"
        return stop(Stage.FILTER, says, *close[:MAX_SHOWN])
    return stop(
        Stage.FILTER,
        f"none of the tailnet's rules ({len(rules)}) lets {src} reach {dst}",
        "the tailnet's policy must allow it",
    )


def admits(compiled: Filter, packet: Packet) -> bool:
    """Whether a new flow passes; with port 0: whether any port does."""
    version, proto = packet.dst.version, packet.flow.number(packet.dst.version)
    src, dst, port = int(packet.src), int(packet.dst), packet.flow.port
    if packet.flow.proto == "icmp":
        return compiled.allows_addresses(version, src, dst)
    if port:
        return compiled.allows(version, proto, src, dst, port)
    return any(
        proto in match.protos
        and match.has_source(src)
        and any(first <= dst <= last for first, last, _, _ in match.destinations)
        for match in (compiled.v4 if version == 4 else compiled.v6)
    )


def deciding(netmap: NetworkMap, packet: Packet) -> int | None:
    """The first rule that lets a flow in, counted from 0."""
    for number, rule in enumerate(netmap.packet_filter or ()):
        if admits(_alone(netmap, rule), packet):
            return number
    return None


def _alone(netmap: NetworkMap, rule: FilterRule) -> Filter:
    return compile_filter([rule], netmap.with_capability)


def rule_text(rule: FilterRule) -> str:
    """``tcp, udp from 100.64.0.2 to 100.64.0.1:22,80-90``."""
    protos = ", ".join(NAMES.get(n, str(n)) for n in rule.ip_proto or ()) or "tcp, udp, icmp"
    to = ", ".join(_destination(one) for one in (rule.dst_ports or ())[:MAX_SHOWN])
    return f"{protos} from {', '.join((rule.src_ips or ())[:MAX_SHOWN])} to {to}"


def _destination(where: NetPortRange) -> str:
    first, last = where.ports.first, where.ports.last
    if (first, last) == (0, 65535):
        return where.ip
    return f"{where.ip} port {first}" if first == last else f"{where.ip} ports {first}-{last}"
