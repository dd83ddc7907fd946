"""``trace``: a packet's way through the plan in force."""

from ipaddress import ip_address

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request, Response, json, text
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.localapi.schema.tracing import TraceAnswer, TraceStep
from tailnet.agent.tailcfg.node import Node
from tailnet.agent.trace.common import state
from tailnet.agent.trace.facts import PROTOCOLS, Facts, Flow, find
from tailnet.agent.trace.inbound import inbound
from tailnet.agent.trace.outbound import outbound
from tailnet.agent.trace.steps import Stage, Trace, passes

SELF = "self"
MAX_PORT = 65_535


class NoSuchName(UserError):
    """Neither an address nor a node; somebody else may know the name."""


async def trace(backend: Backend, request: Request) -> Response:
    """``GET trace``, from ``src`` to ``dst`` (this machine if empty), of ``proto`` and ``port``."""
    query, facts = request.query, backend.trace_facts()
    flow = parse_flow(query.get("proto", ""), query.get("port", ""))
    src, dst = query.get("src", "") or SELF, query.get("dst", "") or SELF
    if facts.netmap is None:
        return _answer(src, dst, flow, Trace((state(facts),)))
    try:
        if src == SELF or find(facts.netmap, src) is facts.netmap.self_node:
            return _outward(facts, dst, flow)
        return _inward(facts, src, dst, flow)
    except NoSuchName as error:
        return text(404, str(error))


def parse_flow(proto: str, port: str) -> Flow:
    """A flow from its texts; TCP if not said.

    Raises:
        UserError: there is none of that kind.
    """
    kind = proto.lower() or "tcp"
    if kind not in PROTOCOLS:
        msg = f"the protocol is one of {', '.join(PROTOCOLS)}"
        raise UserError(msg)
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if port and not (digits and 0 < int(port) <= MAX_PORT):
        msg = "a port is a number from 1 to 65535"
        raise UserError(msg)
    if port and kind == "icmp":
        msg = "icmp has no ports"
        raise UserError(msg)
    return Flow(kind, int(port or 0))


def _outward(facts: Facts, dst: str, flow: Flow) -> Response:
    node, ip = _target(facts, dst)
    found = outbound(facts, ip, flow)
    if node is not None and str(ip) != dst:
        named = passes(Stage.NAME, f"{dst} is {ip}, an address of {node.base_name}")
        found = Trace((found.steps[0], named, *found.steps[1:]))
    return _answer(SELF, str(ip), flow, found)


def _inward(facts: Facts, src: str, dst: str, flow: Flow) -> Response:
    if facts.netmap is None or (source := find(facts.netmap, src)) is None:
        msg = f"no node is called {src[:64]}: the source is this machine or a peer"
        raise NoSuchName(msg)
    node, ip = _target(facts, dst, like=source)
    if node is not None and node is not facts.netmap.self_node:
        msg = "only flows that begin or end at this machine can be traced; ask on one of the two"
        raise UserError(msg)
    return _answer(source.base_name, str(ip), flow, inbound(facts, source, ip, flow))


def _target(facts: Facts, dst: str, like: Node | None = None) -> tuple[Node | None, IPAddress]:
    """A node if it is one, and its address, of a family that ``like`` has."""
    if facts.netmap is None:
        raise NoSuchName(dst)
    node = facts.netmap.self_node if dst == SELF else find(facts.netmap, dst)
    try:
        return node, ip_address(dst)
    except ValueError:
        if node is None:
            msg = f"no node is called {dst[:64]}"
            raise NoSuchName(msg) from None
    families = {ip.version for ip in like.ips()} if like is not None else {4, 6}
    for ip in node.ips():
        if ip.version in families:
            return node, ip
    msg = f"{node.base_name} has no address to be reached at"
    raise UserError(msg)


def _answer(src: str, dst: str, flow: Flow, found: Trace) -> Response:
    steps = tuple(
        TraceStep(stage=s.stage.value, verdict=s.verdict.value, text=s.says, evidence=s.evidence)
        for s in found.steps
    )
    about = TraceAnswer(src=src, dst=dst, flow=str(flow), verdict=found.verdict.value, steps=steps)
    return json(about)
