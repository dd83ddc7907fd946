"""Names that say an address."""

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.dns.names import Name
from tailnet.agent.dns.reverse import is_bonjour, reverse_address, via_address


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_every_address_comes_back_from_its_reverse_name(ip: object) -> None:
    """The standard library writes the name."""
    address = ip_address(str(ip))
    assert reverse_address(Name(address.reverse_pointer)) == address


@pytest.mark.parametrize(
    "name",
    [
        "3.2.1.in-addr.arpa",
        "256.2.3.4.in-addr.arpa",
        "01.2.3.4.in-addr.arpa",
        "x.2.3.4.in-addr.arpa",
        "1.2.3.4.5.in-addr.arpa",
        "a.ip6.arpa",
        ".".join(["g"] * 32) + ".ip6.arpa",
        "in-addr.arpa",
        "1.2.3.4.example",
    ],
)
def test_what_only_looks_like_a_reverse_name_is_none(name: str) -> None:
    """It is forwarded like any other."""
    assert reverse_address(Name(name)) is None


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("10-1-2-3-via-7", "fd7a:115c:a1e0:b1a:0:7:a01:203"),
        ("10-1-2-3-via-0x10.lab.ts.net", "fd7a:115c:a1e0:b1a:0:10:a01:203"),
        ("0-0-0-0-via-0.tailscale.net", "fd7a:115c:a1e0:b1a::"),
        ("1-2-3-4-via-4294967295", "fd7a:115c:a1e0:b1a:ffff:ffff:102:304"),
    ],
)
def test_4via6_names_hold_a_site_and_an_address(name: str, address: str) -> None:
    """Site numbers may be hexadecimal."""
    assert via_address(Name(name)) == IPv6Address(address)


@pytest.mark.parametrize(
    "name",
    [
        "10-1-2-via-7",
        "10-1-2-300-via-7",
        "10-1-2-3-via-",
        "10-1-2-3-via-4294967296",
        "10-1-2-3-via-x",
        "10-1-2-3-for-7",
        "10-1-2-3-via-7.example.com",
        "10-1-2-3-via-7.xts.net",
        "",
    ],
)
def test_what_only_looks_like_4via6_is_none(name: str) -> None:
    """Or is not below a domain of the service."""
    assert via_address(Name(name)) is None


def test_bonjour_is_known_by_its_prefix() -> None:
    """In any zone."""
    assert is_bonjour(Name("lb._dns-sd._udp.0.0.64.100.in-addr.arpa"))
    assert not is_bonjour(Name("x._dns-sd._udp.0.in-addr.arpa"))
