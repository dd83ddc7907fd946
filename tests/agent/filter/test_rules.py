"""Rules of the map become ranges."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.rules import Filter, compile_filter, parse_ranges
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange

ICMP4, TCP, UDP, GRE = 1, 6, 17, 47


def number(text: str) -> int:
    """An address as the filter takes it."""
    return int(ip_address(text))


def rule(
    src: str, dst: str, first: int = 0, last: int = 65535, protos: tuple[int, ...] | None = None
) -> FilterRule:
    """One source, one destination."""
    ports = NetPortRange(ip=dst, ports=PortRange(first, last))
    return FilterRule(src_ips=(src,), dst_ports=(ports,), ip_proto=protos)


def allows(packet_filter: Filter, src: str, dst: str, port: int, proto: int = TCP) -> bool:
    """Ask for a new flow."""
    version = ip_address(src).version
    return packet_filter.allows(version, proto, number(src), number(dst), port)


@pytest.mark.parametrize("rules", [None, []])
def test_no_rules_deny_everything(rules: list[FilterRule] | None) -> None:
    """Never received and empty are the same."""
    assert compile_filter(rules) == Filter()
    assert not allows(compile_filter(rules), "100.64.0.1", "100.64.0.2", 22)


def test_star_means_both_families() -> None:
    """As source and as destination; families never mix."""
    everything = compile_filter([rule("*", "*")])
    assert allows(everything, "1.2.3.4", "5.6.7.8", 1)
    assert allows(everything, "::1", "::2", 1)
    assert len(everything.v4) == len(everything.v6) == 1


def test_a_range_includes_both_ends() -> None:
    """And nothing else."""
    some = compile_filter([rule("1.2.3.4-1.2.3.9", "*", 80, 81)])
    for last, verdict in ((3, False), (4, True), (9, True), (10, False)):
        assert allows(some, f"1.2.3.{last}", "9.9.9.9", 80) is verdict
    assert not allows(some, "1.2.3.5", "9.9.9.9", 82)


def test_an_entry_that_does_not_parse_is_skipped() -> None:
    """The others keep working."""
    good = NetPortRange(ip="10.0.0.0/8", ports=PortRange(1, 2))
    bad = NetPortRange(ip="10.0.0.1/8", ports=PortRange(1, 2))
    some = compile_filter([FilterRule(src_ips=("x", "1.1.1.1"), dst_ports=(bad, good))])
    assert allows(some, "1.1.1.1", "10.2.3.4", 1)


def test_prefix_bits_refuse_the_whole_filter() -> None:
    """Deprecated, and dangerous if misread."""
    old = FilterRule(src_ips=("*",), src_bits=(8,), dst_ports=rule("*", "*").dst_ports)
    assert compile_filter([rule("*", "*"), old]) == Filter()
    bits = NetPortRange(ip="*", bits=8, ports=PortRange(0, 65535))
    assert compile_filter([FilterRule(src_ips=("*",), dst_ports=(bits,))]) == Filter()


def test_protocols_default_to_the_common_ones_and_ignore_nonsense() -> None:
    """TCP, UDP, ICMP; values beyond a byte are skipped."""
    assert allows(compile_filter([rule("*", "*")]), "1.1.1.1", "2.2.2.2", 5, UDP)
    only = compile_filter([rule("*", "*", protos=(TCP, 4711, -1))])
    assert only.v4[0].protos == {TCP}
    assert compile_filter([rule("*", "*", protos=(4711,))]) == Filter()


def test_portless_protocols_need_all_ports() -> None:
    """A rule for some ports says nothing about GRE."""
    src, dst = number("1.1.1.1"), number("2.2.2.2")
    some = compile_filter([rule("*", "*", 1, 65535, (GRE,))])
    assert not some.allows_protocol(4, GRE, src, dst)
    every = compile_filter([rule("*", "*", protos=(GRE,))])
    assert every.allows_protocol(4, GRE, src, dst)


def test_capability_sources_are_the_addresses_of_their_peers() -> None:
    """Without a lookup they match nothing."""
    one = rule("cap:example.com/x", "*")
    lookup = {"example.com/x": [ip_address("100.64.0.9")]}
    some = compile_filter([one], lambda name: lookup.get(name, []))
    assert allows(some, "100.64.0.9", "100.64.0.1", 1)
    assert not allows(some, "100.64.0.8", "100.64.0.1", 1)
    assert compile_filter([one]) == Filter()


@pytest.mark.parametrize("text", ["", "1.2.3.4/33", "1.2.3.9-1.2.3.4", "1.1.1.1-::1", "a-b", "-"])
def test_bad_ranges_are_refused(text: str) -> None:
    """With BadPacket and nothing else."""
    with pytest.raises(BadPacket):
        parse_ranges(text)


spans = st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda t: (t[0], t[0] + t[1]))


@given(st.lists(spans, min_size=1, max_size=8), st.integers(0, 90))
def test_merged_sources_equal_the_list_of_sources(ranges: list[tuple[int, int]], src: int) -> None:
    """The bisection finds what a walk finds."""
    texts = tuple(f"{ip_address(a)}-{ip_address(b)}" for a, b in ranges)
    ports = NetPortRange(ip="*", ports=PortRange(0, 65535))
    (match,) = compile_filter([FilterRule(src_ips=texts, dst_ports=(ports,))]).v4
    assert match.has_source(src) == any(a <= src <= b for a, b in ranges)
    assert list(match.sources) == sorted(match.sources)


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing but BadPacket comes out."""
    try:
        ranges = parse_ranges(text)
    except BadPacket:
        return
    assert all(first <= last for _, first, last in ranges)


def test_opened_ports_open_nothing_else() -> None:
    """TCP to that port from anybody; no other port, no UDP, no ping."""
    ip = ip_address("100.64.0.1")
    for base in (Filter.shields_up(), Filter()):
        opened = base.opened([AddrPort(ip, 4000)])
        src, dst = int(ip_address("100.64.0.9")), int(ip)
        assert opened.closed is base.closed
        assert opened.allows(4, TCP, src, dst, 4000)
        assert not opened.allows(4, TCP, src, dst, 4001)
        assert not opened.allows(4, UDP, src, dst, 4000)
        assert not opened.allows(4, TCP, src, dst + 1, 4000)
        assert not opened.allows_addresses(4, src, dst)
        assert not opened.allows_protocol(4, ICMP4, src, dst)
