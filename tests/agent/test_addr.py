"""Addresses and ranges."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort, AddrPorts, is_tailnet, parse_ip, parse_prefix, unmap
from tailnet.agent.errors import BadPacket


@given(st.ip_addresses(), st.integers(0, 65535))
def test_text_inverts(ip: IPv4Address | IPv6Address, port: int) -> None:
    """Any address and port, IPv4-mapped ones unmapped."""
    parsed = AddrPort.parse(str(AddrPort(ip, port)))
    assert parsed == AddrPort(unmap(ip), port)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:+1", "::1:5",
        "[::1]", "[::1]5", "[fe80::1%eth0]:5", "1.2.3.4:٣", "1.2.3.4:" + "9" * 5000, "host:5",
        "1.2.3.4: 5", "[1.2.3.4:5",
    ],
)  # fmt: skip
def test_malformed_is_refused(text: str) -> None:
    """Zones, bare IPv6, foreign digits, absurd ports."""
    with pytest.raises(BadPacket):
        AddrPort.parse(text)


@given(st.text(max_size=40))
def test_noise_is_refused(text: str) -> None:
    """Only ``BadPacket`` leaves the parsers."""
    for parse in (AddrPort.parse, parse_prefix):
        try:
            parse(text)
        except BadPacket:
            continue


ALMOST = st.text("0123456789.:/abf٣ %", max_size=20) | st.from_regex(
    r"[0-9]{1,4}(\.[0-9]{1,4}){3,4}(/32|/24|/0)?", fullmatch=True
)


SINGLE = st.ip_addresses(v=4).map("{}/32".format) | st.ip_addresses(v=6).map("{}/128".format)


@given(SINGLE)
def test_prefixes_of_one_address_are_made_as_the_library_makes_them(text: str) -> None:
    """The short cut leaves out no attribute but ``hosts``, which nobody here asks for."""
    ours, theirs = parse_prefix(text), ip_network(text)
    assert type(ours) is type(theirs)
    assert vars(ours) == {name: v for name, v in vars(theirs).items() if name != "hosts"}
    assert (str(ours), hash(ours), list(ours.subnets())) == (str(theirs), hash(theirs), [ours])


@given(st.lists(ALMOST | st.ip_addresses(v=4).map("{}:7".format)), st.data())
def test_addresses_kept_as_text_are_as_if_parsed_at_once(
    texts: list[str], data: st.DataObject
) -> None:
    """Length, items, order and equality; malformed ones are left out."""
    parsed = []
    for text in texts:
        try:
            parsed.append(AddrPort.parse(text))
        except BadPacket:
            continue
    fresh = AddrPorts(texts)
    asked = data.draw(st.sampled_from((len, tuple, lambda addrs: addrs[:2], hash, repr)))
    assert asked(fresh) == asked(tuple(parsed))
    assert fresh == tuple(parsed)
    assert fresh == AddrPorts(texts)
    assert (fresh == AddrPorts(texts[1:])) == (tuple(parsed) == tuple(AddrPorts(texts[1:])))


@given(ALMOST | st.ip_addresses().map(str) | st.ip_addresses().map("{}/32".format))
def test_addresses_and_prefixes_are_what_the_library_says(text: str) -> None:
    """The short cuts take and refuse the same."""
    for ours, theirs in ((parse_ip, ip_address), (parse_prefix, ip_network)):
        try:
            want: object = theirs(text)
        except ValueError:
            want = None
        try:
            got: object = ours(text)
        except (ValueError, BadPacket):
            got = None
        assert got == want


def test_mapped_addresses_are_unmapped() -> None:
    """From text and from the socket module, whose zones are dropped."""
    assert AddrPort.parse("[::ffff:1.2.3.4]:5") == AddrPort(IPv4Address("1.2.3.4"), 5)
    assert AddrPort.of("::ffff:1.2.3.4", 5).ip == IPv4Address("1.2.3.4")
    assert AddrPort.of("fe80::1%eth0", 5).ip == IPv6Address("fe80::1")


@pytest.mark.parametrize(
    ("ip", "inside"),
    [
        ("100.64.0.0", True),
        ("100.127.255.255", True),
        ("100.128.0.0", False),
        ("100.63.255.255", False),
        ("100.115.92.1", False),
        ("100.115.94.0", True),
        ("fd7a:115c:a1e0::53", True),
        ("fd7a:115c:a1e1::", False),
    ],
)
def test_tailnet_ranges(ip: str, inside: bool) -> None:
    """CGNAT without the hole of ChromeOS, and one ULA prefix."""
    assert is_tailnet(ip_address(ip)) is inside


def test_prefix_with_host_bits_is_refused() -> None:
    """As in packet filters."""
    assert str(parse_prefix("10.1.0.0/16")) == "10.1.0.0/16"
    with pytest.raises(BadPacket):
        parse_prefix("10.1.0.1/16")
