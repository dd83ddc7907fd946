"""What a trace says before anything is sent is what the packet meets."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from tests.agent.trace.test_walks import BOX, ME, RULES, box, facts
from tests.support.packets import ip, naive_checksum, tcp, udp

from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.filter.match import Matcher, Verdict
from tailnet.agent.filter.parse import parse_untrusted
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.trace.facts import Flow
from tailnet.agent.trace.inbound import inbound
from tailnet.agent.trace.steps import Stage
from tailnet.agent.trace.steps import Verdict as Says

SYN = 0x02


def first_packet(proto: str, port: int) -> bytes:
    """What the peer would send."""
    src, dst = str(BOX), str(ME)
    if proto == "tcp":
        return tcp(src, dst, dport=port, flags=SYN)
    if proto == "udp":
        return udp(src, dst, b"x", dport=port)
    echo = struct.pack(">BBHHH", 8, 0, 0, 1, 1)
    return ip(src, dst, 1, echo[:2] + struct.pack(">H", naive_checksum(echo)) + echo[4:])


def of_protocols(rules: list[FilterRule], protocols: list[int]) -> tuple[FilterRule, ...]:
    """The same rules, for some protocols only."""
    return tuple(
        FilterRule(src_ips=rule.src_ips, dst_ports=rule.dst_ports, ip_proto=tuple(protocols))
        for rule in rules
    )


@given(
    rules=RULES,
    protocols=st.lists(st.sampled_from([1, 6, 17]), max_size=2, unique=True),
    proto=st.sampled_from(["tcp", "udp", "icmp"]),
    port=st.integers(1, 90),
    shields=st.booleans(),
)
def test_the_verdict_is_the_datapaths(
    rules: list[FilterRule], protocols: list[int], proto: str, port: int, shields: bool
) -> None:
    """For any rules, shields up or down, TCP, UDP and ping."""
    wishes = Prefs(logged_out=False, want_running=True, shields_up=shields)
    told = of_protocols(rules, protocols) if protocols else tuple(rules)
    moment = facts(box(), prefs=wishes, packet_filter=told)
    assert moment.plan is not None
    matcher = Matcher(lambda dst: dst == ME.packed)
    matcher.set_filter(moment.plan.filter)
    met = matcher.inbound(parse_untrusted(first_packet(proto, port)))
    trace = inbound(moment, box(), ME, Flow(proto, port if proto != "icmp" else 0))
    said = next(step for step in trace.steps if step.stage is Stage.FILTER)
    assert (said.verdict is not Says.STOP) is (met is Verdict.ACCEPT), (said, met)


def test_both_kinds_of_verdict_are_met() -> None:
    """So that the claim above is about something."""
    web = NetPortRange(ip="*", ports=PortRange(first=80, last=80))
    rules = (FilterRule(src_ips=("*",), dst_ports=(web,)),)
    moment = facts(box(), packet_filter=rules)
    assert moment.plan is not None
    matcher = Matcher(lambda dst: dst == ME.packed)
    matcher.set_filter(moment.plan.filter)
    met = [matcher.inbound(parse_untrusted(first_packet("tcp", port))) for port in (80, 81)]
    assert met == [Verdict.ACCEPT, Verdict.DENIED]
