"""Capabilities that rules grant."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.filter.grants import Grants, granted
from tailnet.agent.tailcfg.filter import CapGrant, FilterRule

A, B, C = (ip_address(f"100.64.0.{n}") for n in (1, 2, 3))
A6 = ip_address("fd7a:115c:a1e0::1")
DRIVE, RELAY = "tailscale.com/cap/drive", "tailscale.com/cap/relay"


def rule(src: str, dst: str, **grant: object) -> FilterRule:
    """One rule with one grant."""
    return FilterRule(src_ips=(src,), cap_grant=(CapGrant(dsts=(dst,), **grant),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("src", "dst", "want"),
    [
        ("100.64.0.1", "100.64.0.2/32", {RELAY: ()}),
        ("*", "100.64.0.0/10", {RELAY: ()}),
        ("100.64.0.0-100.64.0.9", "100.64.0.2/32", {RELAY: ()}),
        ("100.64.0.3", "100.64.0.2/32", {}),
        ("100.64.0.1", "100.64.0.3/32", {}),
        ("fd7a:115c:a1e0::/48", "100.64.0.2/32", {}),
        ("no address", "100.64.0.2/32", {}),
        ("100.64.0.1", "no prefix", {}),
        ("cap:trusted", "100.64.0.2/32", {RELAY: ()}),
        ("cap:other", "100.64.0.2/32", {}),
    ],
)
def test_a_grant_holds_from_its_sources_to_its_destinations(
    src: str, dst: str, want: Grants
) -> None:
    """As a packet rule does; what cannot be read grants nothing."""
    rules = [rule(src, dst, caps=(RELAY,))]
    assert granted(rules, A, B, lambda name: [A] if name == "trusted" else []) == want


def test_values_of_all_rules_add_up() -> None:
    """In the order of the rules; a name without values is granted all the same."""
    rules = [
        rule("*", "100.64.0.2/32", cap_map={DRIVE: ({"shares": ["a"]},)}),
        rule("100.64.0.1", "100.64.0.2/32", cap_map={DRIVE: ({"shares": ["b"]},), RELAY: None}),
        rule("100.64.0.3", "100.64.0.2/32", cap_map={DRIVE: ({"shares": ["not yours"]},)}),
    ]
    assert granted(rules, A, B) == {DRIVE: ({"shares": ["a"]}, {"shares": ["b"]}), RELAY: ()}


def test_no_rules_grant_nothing() -> None:
    """Neither none, nor those that are about packets alone."""
    assert granted(None, A, B) == granted([FilterRule(src_ips=("*",))], A, B) == {}
    assert granted([rule("*", "100.64.0.2/32", caps=(RELAY,))], A, B) == {RELAY: ()}


@given(st.lists(st.builds(FilterRule, src_ips=st.tuples(st.text()), cap_grant=st.tuples(
    st.builds(CapGrant, dsts=st.tuples(st.text()), caps=st.tuples(st.text()))
))))  # fmt: skip
def test_hostile_rules_grant_nothing_and_raise_nothing(rules: list[FilterRule]) -> None:
    """Texts of any kind."""
    for source in (A, A6):
        assert isinstance(granted(rules, source, C), dict)
