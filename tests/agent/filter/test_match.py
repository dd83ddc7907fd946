"""Verdicts, also against a naive reading of the rules."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import ip, tcp, udp

from tailnet.agent.filter.match import Matcher, Verdict
from tailnet.agent.filter.parse import parse_untrusted
from tailnet.agent.filter.rules import Filter, compile_filter
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange

ME, PEER, OTHER = "100.64.0.1", "100.64.0.2", "100.64.0.3"
ME6, PEER6 = "fd7a::1", "fd7a::2"
LOCAL = frozenset(ip_address(a).packed for a in (ME, ME6))
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10


def allow(
    src: str = "*", dst: str = "*", first: int = 0, last: int = 65535, *protos: int
) -> FilterRule:
    """One rule."""
    ports = NetPortRange(ip=dst, ports=PortRange(first, last))
    return FilterRule(src_ips=(src,), dst_ports=(ports,), ip_proto=protos or None)


def matcher(*rules: FilterRule) -> Matcher:
    """A matcher for our own addresses."""
    m = Matcher(LOCAL.__contains__)
    m.set_filter(compile_filter(rules))
    return m


def inbound(m: Matcher, packet: bytes) -> Verdict:
    """Parse and judge."""
    return m.inbound(parse_untrusted(packet))


def test_before_the_first_filter_nothing_new_enters() -> None:
    """Deny is the default."""
    m = Matcher(LOCAL.__contains__)
    assert inbound(m, udp(PEER, ME)) is Verdict.DENIED
    assert inbound(m, tcp(PEER, ME, flags=SYN)) is Verdict.DENIED


def test_only_an_opening_syn_asks_the_rules() -> None:
    """Everything else of TCP belongs to a connection or finds no socket."""
    m = matcher()
    assert inbound(m, tcp(PEER, ME, flags=SYN)) is Verdict.DENIED
    for flags in (ACK, SYN_ACK, 0x04, 0x00, 0x11):
        assert inbound(m, tcp(PEER, ME, flags=flags)) is Verdict.ACCEPT
    m = matcher(allow(PEER, ME, 22, 22))
    assert inbound(m, tcp(PEER, ME, flags=SYN, dport=22)) is Verdict.ACCEPT
    assert inbound(m, tcp(PEER, ME, flags=SYN, dport=23)) is Verdict.DENIED
    assert inbound(m, tcp(OTHER, ME, flags=SYN, dport=22)) is Verdict.DENIED


def test_a_foreign_destination_is_dropped_before_the_rules() -> None:
    """Whatever the rules allow."""
    assert inbound(matcher(allow()), udp(PEER, OTHER)) is Verdict.NOT_LOCAL


def test_udp_replies_enter_and_survive_a_new_filter() -> None:
    """A change of policy does not cut replies."""
    m = matcher()
    assert m.outbound(parse_untrusted(udp(ME, PEER, sport=5, dport=53))) is Verdict.ACCEPT
    assert inbound(m, udp(PEER, ME, sport=53, dport=5)) is Verdict.ACCEPT
    m.set_filter(Filter.shields_up())
    assert inbound(m, udp(PEER, ME, sport=53, dport=5)) is Verdict.ACCEPT
    assert inbound(m, udp(PEER, ME, sport=53, dport=6)) is Verdict.DENIED


def test_a_new_filter_forgets_remembered_verdicts() -> None:
    """The next packet is judged anew."""
    m = matcher(allow())
    assert inbound(m, udp(PEER, ME)) is Verdict.ACCEPT
    m.set_filter(Filter.shields_up())
    assert inbound(m, udp(PEER, ME)) is Verdict.DENIED


@pytest.mark.parametrize("dst", ["224.0.0.1", "ff02::1"])
def test_multicast_is_dropped_both_ways(dst: str) -> None:
    """Before any rule."""
    src = PEER if "." in dst else PEER6
    packet = parse_untrusted(udp(src, dst))
    assert matcher(allow()).inbound(packet) is Verdict.MULTICAST
    assert matcher(allow()).outbound(packet) is Verdict.MULTICAST


def test_link_local_is_dropped_but_for_the_metadata_address() -> None:
    """169.254.169.254 is a service of clouds."""
    m = matcher(allow())
    assert m.outbound(parse_untrusted(udp(ME, "169.254.0.1"))) is Verdict.LINK_LOCAL
    assert m.outbound(parse_untrusted(udp(ME6, "fe80::1"))) is Verdict.LINK_LOCAL
    assert m.outbound(parse_untrusted(udp(ME, "169.254.169.254"))) is Verdict.ACCEPT


def test_later_fragments_enter_and_unknowns_do_not() -> None:
    """Their first fragment was judged."""
    m = matcher()
    assert inbound(m, ip(PEER, ME, 17, bytes(40), flags=10)) is Verdict.ACCEPT
    assert inbound(m, ip(PEER, ME, 17, bytes(40), flags=9)) is Verdict.UNKNOWN


def test_tsmp_always_enters() -> None:
    """It is for the daemon, not for the host."""
    assert inbound(matcher(), ip(PEER, ME, 99, bytes(9))) is Verdict.ACCEPT


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [(0, True), (3, True), (11, True), (0x12, True), (12, False), (8, False), (5, False)],
)
def test_icmp_answers_enter_and_requests_ask(kind: int, verdict: bool) -> None:
    """The parameter problem is upstream's 0x12."""
    packet = ip(PEER, ME, 1, bytes((kind, 0)) + bytes(6))
    assert (inbound(matcher(), packet) is Verdict.ACCEPT) == verdict
    # A rule for one TCP port between the two lets ICMP in: ports and protocols are ignored.
    assert inbound(matcher(allow(PEER, ME, 22, 22, 6)), packet) is Verdict.ACCEPT


@pytest.mark.parametrize(("kind", "verdict"), [(129, True), (1, True), (4, True), (128, False)])
def test_icmpv6_has_its_own_numbers(kind: int, verdict: bool) -> None:
    """Echo reply and errors."""
    packet = ip(PEER6, ME6, 58, bytes((kind, 0)) + bytes(6))
    assert (inbound(matcher(), packet) is Verdict.ACCEPT) == verdict


def test_other_protocols_need_a_rule_that_names_them() -> None:
    """And leaves all ports open."""
    gre = ip(PEER, ME, 47, bytes(8))
    assert inbound(matcher(allow()), gre) is Verdict.DENIED
    assert inbound(matcher(allow("*", "*", 0, 65535, 47)), gre) is Verdict.ACCEPT
    assert inbound(matcher(allow("*", "*", 1, 65535, 47)), gre) is Verdict.DENIED


nets = st.sampled_from(["*", "100.64.0.0/10", PEER, ME, OTHER, "100.64.0.2-100.64.0.3"])
rules = st.builds(
    allow, nets, nets, st.integers(0, 3), st.integers(0, 3), st.sampled_from([6, 17, 132])
)


def naive(rule: FilterRule, proto: int, src: str, dst: str, port: int) -> bool:
    """Read a rule as its author means it."""

    def inside(text: str, address: str) -> bool:
        if text == "*":
            return True
        if "/" in text:
            return ip_address(address) in ip_network(text)
        first, _, last = text.partition("-")
        a = ip_address(address).packed
        return ip_address(first).packed <= a <= ip_address(last or first).packed

    assert rule.src_ips
    assert rule.dst_ports
    assert rule.ip_proto
    (ports,) = rule.dst_ports
    return (
        proto in rule.ip_proto
        and inside(rule.src_ips[0], src)
        and inside(ports.ip, dst)
        and ports.ports.first <= port <= ports.ports.last
    )


@given(
    st.lists(rules, max_size=4), st.sampled_from([PEER, OTHER]), st.integers(0, 4), st.booleans()
)
def test_verdicts_equal_a_naive_reading(
    chosen: list[FilterRule],
    src: str,
    port: int,
    is_tcp: bool,
) -> None:
    """For new flows, asked twice: the remembered verdict is the same."""
    m = matcher(*chosen)
    packet = tcp(src, ME, flags=SYN, dport=port) if is_tcp else udp(src, ME, dport=port)
    expected = any(naive(r, 6 if is_tcp else 17, src, ME, port) for r in chosen)
    for _ in range(2):
        assert (inbound(m, packet) is Verdict.ACCEPT) == expected
