"""Who is a peer relay for us, and for whom we may be one."""

from collections.abc import Iterable

import pytest

from tailnet.agent.addr import IPAddress, parse_ip
from tailnet.agent.backend.relaying import KNOWS_SINCE, RELAY, RELAY_TARGET, RelayRules
from tailnet.agent.magicsock.peers import NO_RELAYING, Relaying
from tailnet.agent.tailcfg.filter import CapGrant, FilterRule
from tailnet.agent.tailcfg.node import Node, NodeID

OWN: tuple[IPAddress, ...] = (parse_ip("100.64.0.1"), parse_ip("fd7a:115c:a1e0::1"))


def node(*addresses: str, cap: int = KNOWS_SINCE, attributes: Iterable[str] = ()) -> Node:
    """A peer."""
    attrs = dict.fromkeys(attributes)
    return Node(id=NodeID(2), addresses=addresses, cap=cap, cap_map=attrs)


def rule(sources: tuple[str, ...], dst: str, *names: str) -> FilterRule:
    """A rule that grants capabilities."""
    grant = CapGrant(dsts=(dst,), cap_map=dict.fromkeys(names))
    return FilterRule(src_ips=sources, cap_grant=(grant,))


@pytest.mark.parametrize(
    ("rules", "role"),
    [
        ([], NO_RELAYING),
        ([rule(("100.64.0.2",), "100.64.0.1/32", RELAY)], Relaying.ASKS),
        ([rule(("100.64.0.2",), "100.64.0.1/32", RELAY_TARGET)], Relaying.SERVES),
        ([rule(("100.64.0.0/24",), "100.64.0.1/32", RELAY, RELAY_TARGET)], ~NO_RELAYING),
        ([rule(("100.64.0.2-100.64.0.9",), "100.64.0.1/32", RELAY)], Relaying.ASKS),
        ([rule(("*",), "fd7a:115c:a1e0::1/128", RELAY)], Relaying.ASKS),
        ([rule(("cap:relays",), "100.64.0.1/32", RELAY_TARGET)], Relaying.SERVES),
        ([rule(("cap:others",), "100.64.0.1/32", RELAY_TARGET)], NO_RELAYING),
        ([rule(("100.64.0.3",), "100.64.0.1/32", RELAY)], NO_RELAYING),
        ([rule(("100.64.0.2",), "100.64.0.3/32", RELAY)], NO_RELAYING),
        ([rule(("nonsense", "100.64.0.2"), "100.64.0.1/32", RELAY)], Relaying.ASKS),
        ([rule(("100.64.0.2",), "100.64.0.1/32", "example.com/cap/relay")], NO_RELAYING),
    ],
)
def test_grants_toward_us_make_roles(rules: list[FilterRule], role: Relaying) -> None:
    """Of the sources of the rule; anything else grants nothing."""
    peer = node("100.64.0.2/32", "fd7a:115c:a1e0::2/128", attributes=["relays"])
    expected = Relaying.KNOWS | (role & (Relaying.ASKS | Relaying.SERVES))
    assert RelayRules.of(rules, OWN).role(peer) == expected


def test_an_old_node_has_no_role() -> None:
    """It would not understand."""
    rules = RelayRules.of([rule(("*",), "100.64.0.1/32", RELAY, RELAY_TARGET)], OWN)
    assert rules.role(node("100.64.0.2/32", cap=KNOWS_SINCE - 1)) == NO_RELAYING
