"""What a trace says, without a network."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.agent.backend.test_plan import netmap, node

from tailnet.agent.addr import AddrPort
from tailnet.agent.backend.peerplan import can_be_talked_to
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import make_plan
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.datapath.interface import NO_PATH, Path
from tailnet.agent.datapath.reference.prefixes import Prefixes
from tailnet.agent.filter.rules import TCP, compile_filter
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.peers import Policy
from tailnet.agent.magicsock.report import PathReport
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.tailcfg.node import Node
from tailnet.agent.trace.facts import Facts, Flow, Packet, PeerFacts, find, taker
from tailnet.agent.trace.inbound import admits, deciding, inbound
from tailnet.agent.trace.outbound import outbound
from tailnet.agent.trace.steps import Stage, Trace, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIRECT = Path(AddrPort.parse("192.0.2.1:41641"), relay=False)
RELAYED = Path(None, relay=True)
SSH = Flow("tcp", 22)
ME, BOX, OTHER = (ip_address(f"100.64.0.{n}") for n in (1, 2, 9))


def ways(path: Path = DIRECT, region: int = 1) -> PathReport:
    """A peer's, without candidates."""
    return PathReport(Policy.AUTO, path, None, region, (), 0, ())


def rule(src: str, dst: str, first: int = 0, last: int = 65535) -> FilterRule:
    """One for TCP, UDP and ping."""
    port = NetPortRange(ip=dst, ports=PortRange(first=first, last=last))
    return FilterRule(src_ips=(src,), dst_ports=(port,))


def facts(
    *peers: Node,
    prefs: Prefs | None = None,
    state: str = "Running",
    about: PeerFacts | None = None,
    warnings: tuple[str, ...] = (),
    **changes: Any,  # noqa: ANN401 - any field
) -> Facts:
    """A moment with these peers."""
    wishes = prefs or Prefs(logged_out=False, want_running=True)
    known = netmap(*peers, **changes)
    made = make_plan(wishes, known, PeerIds())
    standing = about or PeerFacts(3.0, ways())
    return Facts(state, warnings, wishes, known, made, lambda _: standing, NOW)


def box(**changes: Any) -> Node:  # noqa: ANN401 - any field
    """The peer that is asked about."""
    return node(2, **{"name": "box.example.ts.net.", **changes})


def decides(trace: Trace) -> tuple[Stage, str]:
    """Stage and words of the deciding step."""
    assert trace.decides is not None
    return trace.decides.stage, trace.decides.says


def stages(trace: Trace) -> list[Stage]:
    """In order."""
    return [step.stage for step in trace.steps]


def test_a_healthy_way_out_passes_every_stage() -> None:
    """In the order a packet goes."""
    trace = outbound(facts(box()), BOX, SSH)
    assert trace.verdict is Verdict.PASS
    assert trace.decides is None
    assert stages(trace) == [
        Stage.STATE,
        Stage.KEY,
        Stage.ROUTE,
        Stage.PATH,
        Stage.SESSION,
        Stage.FILTER,
        Stage.ANSWER,
    ]


def test_a_healthy_way_in_names_the_rule() -> None:
    """By its number and its text."""
    rules = (rule("100.64.0.7", "*"), rule("100.64.0.2", "100.64.0.1", 22, 22))
    trace = inbound(facts(box(), packet_filter=rules), box(), ME, SSH)
    assert trace.verdict is Verdict.PASS
    said = next(step for step in trace.steps if step.stage is Stage.FILTER)
    assert said.says == "rule 2 of 2 lets tcp 22 in"
    assert said.evidence == ("tcp, udp, icmp from 100.64.0.2 to 100.64.0.1 port 22",)


def test_a_machine_that_is_not_connected_stops_at_once() -> None:
    """With what to do about it."""
    for trace in (
        outbound(facts(box(), state="Stopped"), BOX, SSH),
        inbound(facts(box(), state="Stopped"), box(), ME, SSH),
    ):
        assert decides(trace) == (
            Stage.STATE,
            "this machine is not connected (Stopped); connect with: tnet up",
        )
        assert len(trace.steps) == 1


def test_health_is_a_note_and_the_walk_goes_on() -> None:
    """What is wrong elsewhere may be the reason."""
    trace = outbound(facts(box(), warnings=("no relay",)), BOX, SSH)
    assert (trace.verdict, trace.steps[0].evidence) == (Verdict.NOTE, ("no relay",))
    assert len(trace.steps) > 1


def test_expired_and_unusable_peers_stop_at_their_key() -> None:
    """Marked so by control, or by the clock."""
    old = NOW - timedelta(days=1)
    for peer in (box(expired=True), box(key_expiry=old)):
        assert "has expired" in decides(outbound(facts(peer), BOX, SSH))[1]
        assert "has expired" in decides(inbound(facts(peer), peer, ME, SSH))[1]
    silent = box(disco_key=type(box().disco_key)(bytes(32)), home_derp=0)
    assert "neither a disco key nor a relay" in decides(outbound(facts(silent), BOX, SSH))[1]


def test_an_address_of_nobody_has_no_route() -> None:
    """And one that a router offers says which, and how to accept it."""
    assert decides(outbound(facts(box()), ip_address("192.0.2.77"), SSH))[0] is Stage.ROUTE
    router = box(allowed_ips=("100.64.0.2/32", "192.0.2.0/24"))
    trace = outbound(facts(router), ip_address("192.0.2.77"), SSH)
    assert trace.decides is not None
    assert trace.decides.evidence == (
        "box offers 192.0.2.0/24",
        "accept its routes with: tnet set --accept-routes",
    )
    wishes = Prefs(logged_out=False, want_running=True, route_all=True)
    trace = outbound(facts(router, prefs=wishes), ip_address("192.0.2.77"), SSH)
    assert trace.verdict is Verdict.PASS
    assert any("the router of 192.0.2.0/24" in step.says for step in trace.steps)


def test_an_exit_node_takes_the_rest_or_stops_it() -> None:
    """Gone, nothing leaves."""
    wishes = Prefs(logged_out=False, want_running=True, exit_node_ip="100.64.0.2")
    everything = ("100.64.0.2/32", "0.0.0.0/0", "::/0")
    far = ip_address("198.51.100.1")
    trace = outbound(facts(box(allowed_ips=everything), prefs=wishes), far, SSH)
    assert trace.verdict is Verdict.PASS
    assert any("the exit node in use" in step.says for step in trace.steps)
    assert "an exit node that is not there" in decides(outbound(facts(prefs=wishes), far, SSH))[1]


def test_own_and_service_addresses_go_to_nobody() -> None:
    """The kernel and the daemon have them."""
    for ip, says in ((ME, "this machine"), (ip_address("100.100.100.100"), "service address")):
        trace = outbound(facts(box()), ip, SSH)
        assert trace.verdict is Verdict.PASS
        assert says in trace.steps[-1].says


def test_paths_are_told_apart() -> None:
    """Direct, relayed, off, none."""
    for path, region, online, verdict, says in (
        (DIRECT, 1, True, Verdict.PASS, "directly, at 192.0.2.1:41641"),
        (RELAYED, 1, True, Verdict.PASS, "through the relay 1"),
        (RELAYED, 1, False, Verdict.NOTE, "seems to be off"),
        (NO_PATH, 0, True, Verdict.STOP, "no way leads to box"),
    ):
        about = PeerFacts(3.0, ways(path, region))
        trace = outbound(facts(box(online=online), about=about), BOX, SSH)
        step = next(step for step in trace.steps if step.stage is Stage.PATH)
        assert (step.verdict, says in step.says) == (verdict, True)


def test_what_a_peer_refused_is_remembered_for_its_port() -> None:
    """Others are not blamed."""
    about = PeerFacts(None, ways(), ("tcp 22: rules, 3 s ago", "tcp 2: rules, 1 s ago"))
    at = facts(box(), about=about)
    told = [s for s in outbound(at, BOX, SSH).steps if s.stage is Stage.FILTER]
    assert told[0].verdict is Verdict.NOTE
    assert told[0].evidence == ("tcp 22: rules, 3 s ago",)
    assert outbound(at, BOX, Flow("tcp", 80)).decides is not None  # there was no handshake
    assert decides(outbound(at, BOX, Flow("tcp", 80)))[0] is Stage.SESSION


def test_shields_and_missing_rules_stop_what_comes_in() -> None:
    """With the command that changes it, where there is one."""
    closed = Prefs(logged_out=False, want_running=True, shields_up=True)
    trace = inbound(facts(box(), prefs=closed), box(), ME, SSH)
    assert decides(trace) == (Stage.FILTER, "shields are up: nobody may begin anything here")
    assert "no rules yet" in decides(inbound(facts(box(), packet_filter=None), box(), ME, SSH))[1]
    near = (rule("100.64.0.2", "100.64.0.1", 80, 80),)
    trace = inbound(facts(box(), packet_filter=near), box(), ME, SSH)
    assert trace.decides is not None
    assert trace.decides.evidence == (
        "rule 1: tcp, udp, icmp from 100.64.0.2 to 100.64.0.1 port 80",
    )
    trace = inbound(facts(box(), packet_filter=()), box(), ME, SSH)
    assert "none of the tailnet's rules (0)" in decides(trace)[1]


def test_a_jailed_peer_may_not_begin() -> None:
    """Though a rule would let it."""
    peer = box(is_jailed=True)
    trace = inbound(facts(peer), peer, ME, SSH)
    assert "is barred from this machine" in trace.steps[-1].says


def test_routes_behind_this_machine_need_approval() -> None:
    """Advertised, approved, or neither."""
    target = ip_address("192.0.2.5")
    wishes = Prefs(logged_out=False, want_running=True, advertise_routes=("192.0.2.0/24",))
    assert "neither this machine" in decides(inbound(facts(box()), box(), target, SSH))[1]
    assert (
        "nobody has approved" in decides(inbound(facts(box(), prefs=wishes), box(), target, SSH))[1]
    )
    approved = node(1, allowed_ips=("100.64.0.1/32", "192.0.2.0/24"))
    at = facts(box(), prefs=wishes, self_node=approved)
    assert inbound(at, box(), target, SSH).verdict is Verdict.PASS


def test_nodes_are_found_by_address_and_name() -> None:
    """In any of the usual forms."""
    known = netmap(box())
    for who in ("100.64.0.2", "fd7a:115c:a1e0::2", "box", "BOX.example.ts.net."):
        found = find(known, who)
        assert found is not None
        assert found.id == 2
    assert find(known, "") is None
    assert find(known, "100.64.0.99") is None


ADDRESSES = st.sampled_from(
    ["*", "100.64.0.1", "100.64.0.2", "100.64.0.0/30", "100.64.0.2-100.64.0.5"]
)
PORTS = st.tuples(st.integers(0, 90), st.integers(0, 90)).map(sorted)
RULES = st.lists(st.builds(lambda s, d, p: rule(s, d, *p), ADDRESSES, ADDRESSES, PORTS), max_size=4)


@given(RULES, st.integers(1, 90))
def test_the_deciding_rule_exists_exactly_if_the_filter_lets_it_in(
    rules: list[FilterRule], port: int
) -> None:
    """The explanation cannot differ from what packets meet."""
    known: NetworkMap = netmap(box(), packet_filter=tuple(rules))
    packet = Packet(BOX, ME, Flow("tcp", port))
    whole = compile_filter(rules)
    let_in = whole.allows(4, TCP, int(BOX), int(ME), port)
    assert admits(whole, packet) is let_in
    assert (deciding(known, packet) is not None) is let_in


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(20, 32)), min_size=1, max_size=6))
def test_the_taker_is_whom_the_datapath_chooses(parts: list[tuple[int, int]]) -> None:
    """The longest prefix, as in the tables that packets meet."""
    nets = {ip_network((f"192.0.2.{last}", size), strict=False) for last, size in parts}
    peers = [
        node(n, allowed_ips=(f"100.64.0.{n}/32", str(net))) for n, net in enumerate(sorted(nets), 2)
    ]
    wishes = Prefs(logged_out=False, want_running=True, route_all=True)
    made = make_plan(wishes, netmap(*peers), PeerIds())
    table: Prefixes[PeerId] = Prefixes()
    for peer, entry in made.peers.items():
        for net in entry.entry.allowed:
            table.insert(net, peer)
    for last in range(0, 256, 5):
        ip = ip_address(f"192.0.2.{last}")
        found = taker(made, ip)
        assert (found[0] if found else None) == table.lookup(ip.packed)


@given(st.booleans(), st.booleans(), st.integers(0, 2), st.booleans())
def test_who_cannot_be_talked_to_is_stopped_at_the_key(
    expired: bool, silent: bool, home: int, wireguard: bool
) -> None:
    """By the plan's own judgement, and with a reason of its own."""
    disco = type(box().disco_key)(bytes(32)) if silent else box().disco_key
    peer = box(expired=expired, disco_key=disco, home_derp=home, is_wire_guard_only=wireguard)
    trace = inbound(facts(peer), peer, ME, SSH)
    usable = can_be_talked_to(peer, node(1).key)
    assert (trace.steps[-1].stage is Stage.KEY) is not usable
    assert "cannot use it" not in trace.steps[-1].says
