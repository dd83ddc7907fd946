"""Whom to ask and when."""

from ipaddress import ip_address

import pytest

from tailnet.agent.addr import AddrPort
from tailnet.agent.dns.publicdns import dial_addresses, doh_base
from tailnet.agent.dns.upstream import MAX_UPSTREAMS, Https, Plain, upstreams
from tailnet.agent.tailcfg.dns import Resolver


def asked(*addrs: str) -> list[tuple[object, float]]:
    """Servers with their delays, for resolvers as control writes them."""
    return [(u.server, u.delay) for u in upstreams(Resolver(addr=a) for a in addrs)]


def plain(ip: str, port: int = 53) -> Plain:
    """By address."""
    return Plain(AddrPort(ip_address(ip), port))


def test_an_unknown_address_is_asked_plainly_at_once() -> None:
    """With its port if it has one."""
    both = [(plain("192.0.2.1"), 0.0), (plain("192.0.2.1", 5353), 0.0)]
    assert asked("192.0.2.1", "192.0.2.1:5353") == both
    assert asked("fd00::1", "[fd00::1]:54") == [
        (plain("fd00::1"), 0.0),
        (plain("fd00::1", 54), 0.0),
    ]


def test_a_known_resolver_is_asked_by_https_first() -> None:
    """Its plain form and its other address follow if that is slow."""
    https = Https("https://dns.google/dns-query", dial_addresses("https://dns.google/dns-query"))
    assert asked("8.8.8.8") == [(https, 0.0), (plain("8.8.8.8"), 0.5), (plain("8.8.4.4"), 0.7)]
    assert asked("8.8.8.8", "8.8.4.4") == [
        (https, 0.0),
        (plain("8.8.8.8"), 0.5),
        (plain("8.8.4.4"), 0.5),
    ]


def test_a_resolver_that_knows_its_customer_is_never_asked_plainly() -> None:
    """The address holds the customer's number."""
    ((server, delay),) = asked("2a07:a8c0::12:3456")
    assert isinstance(server, Https)
    assert (server.url, delay) == ("https://dns.nextdns.io/123456", 0.0)
    assert ip_address("2a07:a8c1::12:3456") in server.dial


def test_a_peer_is_asked_by_its_url() -> None:
    """No name to look up, no TLS: it is inside the tunnel."""
    url = "http://100.64.0.2:38888/dns-query"
    assert asked(url) == [(Https(url, ()), 0.0)]


@pytest.mark.parametrize(
    "addr",
    [
        "",
        "tls://1.1.1.1",
        "https://unknown.example/q",
        "100.100.100.100",
        "fd7a:115c:a1e0::53",
        "x",
    ],
)
def test_who_cannot_be_asked_is_left_out(addr: str) -> None:
    """Ourselves among them: that would be a loop."""
    assert asked(addr) == []


def test_the_number_of_attempts_is_bounded() -> None:
    """Whatever control lists."""
    assert len(asked(*(f"192.0.2.{n}" for n in range(1, 100)))) == MAX_UPSTREAMS


@pytest.mark.parametrize(
    "ip",
    [
        "1.1.1.1",
        "2620:fe::fe",
        "149.112.121.10",
        "149.112.121.20",
        "149.112.121.30",
        *(f"194.242.2.{n}" for n in (2, 3, 4, 5, 6, 9)),
        *(f"76.76.2.{n}" for n in range(5)),
    ],
)
def test_a_known_address_is_dialled_where_its_name_is(ip: str) -> None:
    """No lookup is needed to make a lookup."""
    base = doh_base(ip_address(ip))
    assert base is not None
    assert ip_address(ip) in dial_addresses(base)
