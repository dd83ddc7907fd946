"""Where kernel messages become values, without a kernel."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tailnet.platform.linux.netlink import _rule, ipv6_usable
from tailnet.platform.linux.rules import Selector

RULE: dict[str, Any] = {
    "family": 2,
    "src_len": 0,
    "dst_len": 0,
    "tos": 0,
    "table": 52,
    "action": 1,
    "flags": 0,
    "attrs": [
        ("FRA_TABLE", 52),
        ("FRA_SUPPRESS_PREFIXLEN", 0xFFFFFFFF),
        ("FRA_PROTOCOL", 2),
        ("FRA_PRIORITY", 5270),
    ],
}


def test_rule_that_selects_by_nothing_else_is_plain() -> None:
    """As our own."""
    assert _rule(RULE).plain


@pytest.mark.parametrize(
    "more",
    [
        {"src_len": 24},
        {"dst_len": 24},
        {"tos": 8},
        {"flags": 2},  # inverted
        {"action": 6},  # blackhole
        {"action": 8},  # prohibit
        {"attrs": [*RULE["attrs"], ("FRA_IIFNAME", "lo")]},
        {"attrs": [*RULE["attrs"], ("FRA_UID_RANGE", {"start": 0, "end": 0})]},
        {"attrs": [("FRA_TABLE", 52), ("FRA_SUPPRESS_PREFIXLEN", 0)]},
    ],
)
def test_rule_that_does_is_not(more: dict[str, Any]) -> None:
    """So it is somebody else's."""
    assert not _rule(RULE | more).plain


MARKED = ("FRA_FWMARK", 1), ("FRA_FWMASK", 0xFF)


@pytest.mark.parametrize(
    ("more", "sweeping"),
    [
        ({}, True),
        ({"flags": 2, "attrs": [*RULE["attrs"], *MARKED]}, True),  # not of this mark
        ({"attrs": [*RULE["attrs"], *MARKED]}, False),
        ({"flags": 2}, False),  # "not all" is nothing
        ({"dst_len": 24}, False),
        ({"action": 6}, False),
        ({"attrs": [*RULE["attrs"], ("FRA_IIFNAME", "lo")]}, False),
        ({"attrs": [("FRA_TABLE", 254), ("FRA_SUPPRESS_PREFIXLEN", 0)]}, False),
        ({"attrs": [("FRA_PRIORITY", 1000), ("FRA_L3MDEV", 1)]}, False),
    ],
)
def test_rule_that_takes_everything_is_sweeping(more: dict[str, Any], sweeping: bool) -> None:
    """Or everything but what another VPN marks as its own."""
    assert _rule(RULE | more).sweeping is sweeping


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A host with IPv6 and a tunnel."""
    for device in ("all", "tun0"):
        (tmp_path / device).mkdir()
        (tmp_path / device / "disable_ipv6").write_text("0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("more", "selects"),
    [
        ({}, None),
        (
            {"dst_len": 24, "attrs": [("FRA_TABLE", 254), ("FRA_DST", "192.0.2.0")]},
            Selector(dst=ip_network("192.0.2.0/24")),
        ),
        (
            {"src_len": 64, "attrs": [("FRA_TABLE", 254), ("FRA_SRC", "2001:db8::")]},
            Selector(src=ip_network("2001:db8::/64")),
        ),
        (
            {"attrs": [("FRA_TABLE", 254), ("FRA_FWMARK", 2), ("FRA_FWMASK", 3)]},
            Selector(mark=2, mask=3),
        ),
        (
            {"attrs": [("FRA_TABLE", 254), ("FRA_IIFNAME", "lo"), ("FRA_OIFNAME", "eth0")]},
            Selector(iif="lo", oif="eth0"),
        ),
        ({"tos": 8, "attrs": [("FRA_TABLE", 254), ("FRA_IIFNAME", "lo")]}, None),
        ({"attrs": [("FRA_TABLE", 254), ("FRA_FWMARK", 2), ("FRA_L3MDEV", 1)]}, None),
        ({"flags": 2, "attrs": [("FRA_TABLE", 254), ("FRA_IIFNAME", "lo")]}, None),
        ({"action": 7, "attrs": [("FRA_IIFNAME", "lo")]}, None),
    ],
)
def test_what_a_rule_is_for(more: dict[str, Any], selects: Selector | None) -> None:
    """As far as it can be said in other words."""
    assert _rule(RULE | more).selects == selects


def test_ipv6_is_usable(conf: Path) -> None:
    """By host and device."""
    assert ipv6_usable(None, conf)
    assert ipv6_usable("tun0", conf)


@pytest.mark.parametrize("switch", ["all/disable_ipv6", "all/disable_policy"])
def test_host_switches_ipv6_off(conf: Path, switch: str) -> None:
    """For all devices."""
    (conf / switch).write_text("1\n")
    assert not ipv6_usable(None, conf)
    assert not ipv6_usable("tun0", conf)


def test_device_switches_ipv6_off(conf: Path) -> None:
    """For itself; a small MTU removes the folder."""
    (conf / "tun0" / "disable_ipv6").write_text("1\n")
    assert ipv6_usable(None, conf)
    assert not ipv6_usable("tun0", conf)
    assert not ipv6_usable("tun1", conf)


def test_kernel_without_ipv6(tmp_path: Path) -> None:
    """The whole folder is missing."""
    assert not ipv6_usable(None, tmp_path / "nothing")
