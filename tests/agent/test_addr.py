"""Addresses and ranges."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort, is_tailnet, parse_ip, parse_prefix, unmap
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
