"""What counts as a change, and which notifications are worth a look."""

import struct
from dataclasses import replace
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.interface import NetworkChange, NetworkInterface, NetworkState
from tailnet.platform.linux.netmon.classify import compare
from tailnet.platform.linux.netmon.messages import (
    DELADDR,
    DELLINK,
    DELROUTE,
    DELRULE,
    NEWADDR,
    NEWLINK,
    NEWROUTE,
    NEWRULE,
    Hint,
    hints,
)
from tailnet.platform.linux.rules import RULE_WINDOW

TUN = 7
OURS = 0x40001234  # netlink port
NOTHING, NETWORK, TUNNEL = Hint.NONE, Hint.NETWORK, Hint.TUNNEL


def device(name: str, *addrs: str, up: bool = True) -> NetworkInterface:
    """With these addresses."""
    return NetworkInterface(name, up, frozenset(map(ip_interface, addrs)))


def state(*devices: NetworkInterface, v4: str = "eth0", v6: str = "") -> NetworkState:
    """With the default route by these devices."""
    return NetworkState({d.name: d for d in devices}, v4, v6)


ETH = device("eth0", "192.0.2.2/24", "fe80::1/64")
WLAN = device("wlan0", "198.51.100.2/24")
HOME = state(ETH)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (state(ETH, WLAN, v4="wlan0"), "the default route is by wlan0, was by eth0"),
        (state(device("eth0", "192.0.2.3/24")), "eth0 has other addresses"),
        (state(ETH, WLAN), "wlan0 has other addresses"),
        (state(replace(ETH, addrs=ETH.addrs | {ip_interface("2001:db8::2/64")})), "eth0"),
    ],
)
def test_what_makes_sockets_worthless_is_major(new: NetworkState, reason: str) -> None:
    """Another way out, or other addresses to be reached at."""
    event = compare(HOME, new)
    assert event is not None
    assert event.change is NetworkChange.MAJOR
    assert reason in event.reason
    assert event.state == new


@pytest.mark.parametrize(
    "new",
    [
        state(replace(ETH, addrs=ETH.addrs | {ip_interface("fe80::2/64")})),
        state(device("eth0", "192.0.2.2/24")),
        state(ETH, device("docker0", "169.254.1.1/16")),
        state(ETH, device("down0", "10.0.0.1/8", up=False)),
        state(ETH, v6="eth0"),
        state(device("eth0", "192.0.2.2/24", up=False)),
        state(v4=""),
    ],
    ids=[
        "link-local",
        "no link-local",
        "link-local device",
        "down",
        "IPv6 way out",
        "cable",
        "nothing left",
    ],
)
def test_the_rest_is_minor(new: NetworkState) -> None:
    """Worth a measurement; with no way out there is nothing to bind sockets for."""
    event = compare(HOME, new)
    assert event is not None
    assert event.change is NetworkChange.MINOR
    assert event.reason


def test_what_there_was_not_is_not_named() -> None:
    """After a time without a way out."""
    event = compare(state(v4=""), HOME)
    assert event is not None
    assert event.reason == "the default route is by eth0"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (state(ETH, v4=""), state(device("eth0", "192.0.2.3/24"), v4="")),
        (state(v4=""), state(ETH, v4="")),
    ],
    ids=["another", "the first"],
)
def test_without_default_routes_addresses_decide(old: NetworkState, new: NetworkState) -> None:
    """A network of its own, which leads nowhere else."""
    event = compare(old, new)
    assert event is not None
    assert event.change is NetworkChange.MAJOR


def test_a_network_is_there_when_packets_could_come_back() -> None:
    """Neither by loopback, nor by what the kernel made up, nor without a cable."""
    assert state(ETH).connected
    assert state(device("wwan0", "100.70.1.2/30")).connected  # as mobile carriers give
    assert not state(device("lo", "127.0.0.1/8", "::1/128")).connected
    assert not state(device("eth0", "fe80::1/64", "169.254.3.4/16")).connected
    assert not state(replace(ETH, up=False)).connected


def test_the_same_network_is_no_event_unless_we_slept() -> None:
    """Ten minutes, and the routers on the way have forgotten us."""
    assert compare(HOME, HOME) is None
    short, long = compare(HOME, HOME, 30.0), compare(HOME, HOME, 700.0)
    assert short is not None
    assert short.change is NetworkChange.MINOR
    assert long is not None
    assert long.change is NetworkChange.MAJOR
    assert long.reason == "the host was away for 12 minutes"


DEVICES = st.builds(
    device,
    st.sampled_from(["eth0", "wlan0", "docker0"]),
    st.sampled_from(["192.0.2.2/24", "fe80::1/64", "2001:db8::1/64", "100.64.0.1/32"]),
    up=st.booleans(),
)
STATES = st.builds(
    lambda devices, v4, v6: state(*devices, v4=v4, v6=v6),
    st.lists(DEVICES, max_size=3),
    st.sampled_from(["", "eth0", "wlan0"]),
    st.sampled_from(["", "eth0"]),
)


@given(STATES, STATES)
def test_every_difference_is_told_and_nothing_else(old: NetworkState, new: NetworkState) -> None:
    """With a reason in words."""
    event = compare(old, new)
    assert (event is None) == (old == new)
    assert event is None or event.reason


def message(kind: int, body: bytes, port: int = 0) -> bytes:
    """As the kernel sends it."""
    data = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, port) + body
    return data + bytes(-len(data) % 4)


def link(kind: int, index: int, flags: int = 0) -> bytes:
    """``struct ifinfomsg``, and near enough ``struct ifaddrmsg``."""
    return message(kind, struct.pack("=BBHiI", 0, 0, 0, index, flags) + bytes(4))


def address(kind: int, index: int, scope: int = 0) -> bytes:
    """``struct ifaddrmsg``."""
    return message(kind, struct.pack("=BBBBi", 10, 64, 0, scope, index) + bytes(8))


def route(kind: int, table: int, port: int = 0) -> bytes:
    """``struct rtmsg``."""
    return message(kind, bytes((2, 0, 0, 0, table, 0, 0, 0)) + bytes(4), port)


def priority(kind: int, number: int, protocol: int = 0) -> bytes:
    """``struct fib_rule_hdr`` with a table attribute in front."""
    attributes = struct.pack("=HHI", 8, 15, 52) + struct.pack("=HHI", 8, 6, number)
    attributes += struct.pack("=HHB3x", 5, 21, protocol)
    return message(kind, bytes(12) + attributes)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (link(NEWLINK, 2), NETWORK),
        (link(DELADDR, 2), NETWORK),
        (address(NEWADDR, TUN), NOTHING),
        (address(NEWADDR, TUN, 253), TUNNEL),  # the link's own: IPv6 was turned on
        (link(DELADDR, TUN), TUNNEL),
        (link(DELLINK, TUN), TUNNEL),
        (link(NEWLINK, TUN), TUNNEL),  # it is down
        (link(NEWLINK, TUN, 0x41), NOTHING),  # up, and has a carrier
        (route(NEWROUTE, 254), NETWORK),
        (route(DELROUTE, 254), NETWORK),
        (route(NEWROUTE, 255), NOTHING),
        (route(NEWROUTE, 52), NOTHING),
        (route(DELROUTE, 52), TUNNEL),
        (route(DELROUTE, 52, OURS), NOTHING),
        (route(DELROUTE, 52, OURS + 1), TUNNEL),
        (priority(DELRULE, 5270), TUNNEL),
        (priority(DELRULE, 32766), NOTHING),
        (priority(NEWRULE, 5270, 2), NOTHING),
        (priority(NEWRULE, 5270), TUNNEL),
        (priority(NEWRULE, 100), TUNNEL),
        (priority(DELRULE, 100), TUNNEL),
        (priority(NEWRULE, RULE_WINDOW.stop - 1), TUNNEL),
        (priority(NEWRULE, RULE_WINDOW.stop), NOTHING),
        (priority(NEWRULE, 32765), NOTHING),
        (route(NEWROUTE, 52) + route(DELROUTE, 254) + priority(DELRULE, 5210), NETWORK | TUNNEL),
        (b"", NOTHING),
        (link(NEWLINK, 2)[:-4], NETWORK | TUNNEL),
        (message(NEWLINK, struct.pack("=BBHi", 0, 0, 0, TUN)), TUNNEL),  # without flags
    ],
)
def test_a_notification_says_where_to_look(data: bytes, hint: Hint) -> None:
    """Ours are no news when they appear, only when they go; others' rules before ours are, both."""
    assert hints(data, TUN, OURS) == hint


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    """The kernel does not send such; still we would only look once more."""
    assert hints(data, TUN) in Hint.NETWORK | Hint.TUNNEL
