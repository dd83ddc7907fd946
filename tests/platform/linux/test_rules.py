"""From wishes to requests."""

from ipaddress import ip_interface, ip_network
from socket import AF_INET, AF_INET6

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.interface import RouterConfig
from tailnet.platform.linux.rules import (
    Abilities,
    Prefix,
    Request,
    Route,
    Rule,
    Selector,
    State,
    Verb,
    also_hits,
    covered,
    desired,
    detours,
    is_our_route,
    is_our_rule,
    obstacles,
    ours,
    plan,
    policy_rules,
    tunnel_route,
)

OIF = 7
ABLE = Abilities()
PREFIXES = [
    ip_network(p)
    for p in ("0.0.0.0/0", "::/0", "100.64.0.2/32", "10.0.0.0/8", "fd7a:115c:a1e0::/48")
]
ADDRS = [ip_interface(a) for a in ("100.64.0.1/32", "100.64.0.2/32", "fd7a:115c:a1e0::1/128")]
CONFIGS = st.builds(
    RouterConfig,
    st.frozensets(st.sampled_from(ADDRS)),
    st.frozensets(st.sampled_from(PREFIXES)),
    st.frozensets(st.sampled_from(PREFIXES)),
)
ABILITIES = st.builds(
    Abilities, st.frozensets(st.sampled_from([AF_INET, AF_INET6])), tables=st.booleans()
)


def carried_out(state: State, steps: list[Request]) -> State:
    """What a kernel makes of the requests, one by one."""
    rules, addrs = set(state.rules), set(state.addrs)
    routes = {r.place: r for r in state.routes}
    for step in steps:
        add = step.verb is Verb.ADD
        match step.item:
            case Rule() as rule:
                rules.add(rule) if add else rules.remove(rule)
            case Route() as route:
                if add:
                    routes[route.place] = route
                else:
                    del routes[route.place]
            case addr:
                addrs.add(addr) if add else addrs.remove(addr)
    return State(frozenset(rules), frozenset(routes.values()), frozenset(addrs))


@given(CONFIGS, CONFIGS, ABILITIES, ABILITIES)
def test_plan_leads_from_anything_to_what_is_wanted(
    before: RouterConfig, after: RouterConfig, then: Abilities, now: Abilities
) -> None:
    """And from there nowhere."""
    have, want = desired(before, OIF, then), desired(after, OIF, now)
    steps = plan(want, have)
    assert carried_out(have, steps) == want
    assert plan(want, want) == []


@given(CONFIGS, CONFIGS)
def test_nothing_is_deleted_before_everything_is_added(
    before: RouterConfig, after: RouterConfig
) -> None:
    """An interface without addresses loses its routes."""
    verbs = [s.verb for s in plan(desired(after, OIF, ABLE), desired(before, OIF, ABLE))]
    assert verbs == sorted(verbs, key=[Verb.ADD, Verb.DELETE].index)


@given(CONFIGS, CONFIGS)
def test_exceptions_come_first_and_go_last(before: RouterConfig, after: RouterConfig) -> None:
    """Else the LAN would be unreachable for a moment."""
    steps = plan(desired(after, OIF, ABLE), desired(before, OIF, ABLE))
    routes = [(s.verb, s.item.oif is None) for s in steps if isinstance(s.item, Route)]
    order = [(Verb.ADD, True), (Verb.ADD, False), (Verb.DELETE, False), (Verb.DELETE, True)]
    assert routes == sorted(routes, key=order.index)


def test_bypass_rules_surround_everything() -> None:
    """First to come, last to go."""
    config = RouterConfig(frozenset(ADDRS), frozenset(PREFIXES))
    full = desired(config, OIF, ABLE)
    there, back = plan(full, State()), plan(State(), full)
    assert [type(s.item) for s in there[:8]] == [Rule] * 8
    assert [s.item for s in back[-8:]] == [s.item for s in there[7::-1]]


def test_exception_wins_over_route() -> None:
    """A prefix in both sets stays out of the tunnel."""
    both = frozenset({ip_network("10.0.0.0/8")})
    state = desired(RouterConfig(routes=both, local_routes=both), OIF, ABLE)
    assert [r.oif for r in state.routes] == [None]


def test_without_tables_routes_go_to_main() -> None:
    """Without rules and exceptions."""
    config = RouterConfig(frozenset(), frozenset(PREFIXES[2:3]), frozenset(PREFIXES[3:4]))
    state = desired(config, OIF, Abilities(tables=False))
    assert state.rules == frozenset()
    assert [(r.dst, r.table) for r in state.routes] == [(PREFIXES[2], 254)]


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
@pytest.mark.parametrize(
    ("priority", "table", "protocol", "plain", "expected"),
    [
        (5210, 254, 2, True, True),
        (5210, 254, 3, True, True),
        (5250, None, 0, True, True),
        (5290, 77, 2, True, True),  # of some other version
        (5260, 254, 3, True, False),  # an administrator's, in a gap
        (5210, 254, 2, False, False),  # it also selects by address
        (5210, 255, 3, True, False),
        (5300, 52, 2, True, False),
        (5199, 52, 2, True, False),
        (32766, 254, 2, True, False),
    ],
)
def test_our_rules_are_recognised(
    family: int, priority: int, table: int | None, protocol: int, plain: bool, expected: bool
) -> None:
    """By place and maker, whatever the mark."""
    for mark, mask in ((0x80000, 0xFF0000), (0x1, 0xFF), (0, 0)):
        rule = Rule(family, priority, table, mark, mask, protocol, plain)
        assert is_our_rule(rule) == expected


def test_our_routes_are_recognised() -> None:
    """In the main table also by the device, since 186 is BGP there."""
    dst = PREFIXES[3]
    assert is_our_route(tunnel_route(dst, 52, None), None)
    assert is_our_route(tunnel_route(dst, 254, OIF), OIF)
    assert not is_our_route(tunnel_route(dst, 254, OIF + 1), OIF)
    assert not is_our_route(tunnel_route(dst, 254, None), None)
    assert not is_our_route(tunnel_route(dst, 99, OIF), OIF)
    assert not is_our_route(Route(dst, 52, OIF, 0, protocol=3), OIF)


@given(st.booleans(), st.integers(0, 40000), st.integers(0, 255), st.booleans())
def test_only_sweeping_rules_of_others_up_to_ours_are_in_the_way(
    sweeping: bool, priority: int, table: int, inverted: bool
) -> None:
    """Ours never are."""
    mark = 0xFF if inverted else 0
    rule = Rule(AF_INET, priority, table, mark, mark, 0, plain=not inverted, sweeping=sweeping)
    expected = sweeping and 0 < priority <= 5270 and not is_our_rule(rule)
    assert obstacles([*policy_rules(AF_INET), rule]) == [rule] * expected
    assert ("not fwmark" in str(rule)) == (sweeping and inverted)


def test_what_others_lead_around_the_tunnel() -> None:
    """By rules before ours that are for some packets, each of these once."""
    lan, late = Selector(dst=ip_network("192.0.2.0/24")), Selector(mark=1, mask=1)
    rules = [
        *policy_rules(AF_INET),
        Rule(AF_INET, 100, 254, plain=False, selects=lan),
        Rule(AF_INET, 5260, 254, plain=False, selects=lan),
        Rule(AF_INET, 5280, 254, plain=False, selects=late),
        Rule(AF_INET, 200, 254, plain=False, sweeping=True),
    ]
    assert detours(rules) == [lan]


def test_rule_whose_deletion_could_hit_anothers_is_left_out() -> None:
    """The kernel takes "no protocol" in a request for any."""
    legacy = Rule(AF_INET, 5270, 52, protocol=0)
    foreign = Rule(AF_INET, 5270, 52, mark=2, mask=0xFFFFFFFF, protocol=0, plain=False)
    assert ours(State(frozenset({legacy})), OIF).rules == {legacy}
    assert ours(State(frozenset({legacy, foreign})), OIF).rules == frozenset()
    mine = policy_rules(AF_INET)
    assert ours(State(mine | {foreign}), OIF).rules == mine


def test_request_is_as_wide_as_what_it_leaves_open() -> None:
    """Mark and protocol, if given, must fit."""
    marked = Rule(AF_INET, 5210, 254, 0x80000, 0xFF0000)
    assert also_hits(marked, Rule(AF_INET, 5210, 254, 0x80000, 0xFF0000, plain=False))
    assert not also_hits(marked, Rule(AF_INET, 5210, 254, plain=False))
    assert not also_hits(marked, Rule(AF_INET6, 5210, 254, 0x80000, 0xFF0000))
    assert not also_hits(marked, Rule(AF_INET, 5210, 254, 0x80000, 0xFF0000, protocol=3))


def test_addresses_of_others_are_not_ours() -> None:
    """Unless they were added here."""
    mine, link_local, other = (
        ip_interface(a) for a in ("100.64.0.1/32", "fe80::1/64", "10.0.0.1/32")
    )
    state = State(addrs=frozenset({mine, link_local, other}))
    assert ours(state, OIF).addrs == {mine}
    assert ours(state, OIF, {other}).addrs == {mine, other}


def test_requests_read_well() -> None:
    """They are shown to users."""
    rules = sorted(policy_rules(AF_INET), key=lambda r: r.priority)
    assert str(Request(Verb.DELETE, rules[0])) == (
        "remove IPv4 rule 5210: fwmark 0x80000/0xff0000 lookup 254"
    )
    assert str(Request(Verb.ADD, tunnel_route(PREFIXES[3], 52, None))) == (
        "add route throw 10.0.0.0/8 table 52"
    )
    assert str(Request(Verb.ADD, ADDRS[0])) == "add address 100.64.0.1/32"


def test_a_device_without_ipv6_is_no_way_around_the_guard() -> None:
    """Its rules and its end of the lookup are there all the same; nothing else of IPv6 is."""
    ipv4 = Abilities(frozenset({AF_INET}))
    config = RouterConfig(routes=frozenset({ip_network("::/0")}), leak_guard=True)
    state = desired(config, OIF, ipv4)
    assert {r.dst.version for r in state.routes if r.blocks} == {4, 6}
    assert all(r.blocks for r in state.routes)
    assert {r.family for r in state.rules} == {AF_INET, AF_INET6}
    neither = Abilities(frozenset({AF_INET}), frozenset({AF_INET}))
    assert {r.family for r in desired(config, OIF, neither).rules} == {AF_INET}


def test_what_is_blocked_gives_way_to_routes_and_exceptions() -> None:
    """In the same place, so that adding one replaces the other."""
    there = frozenset({ip_network("100.64.0.2/32")})
    blocked = desired(RouterConfig(blocked=there), OIF, ABLE).routes
    routed = desired(RouterConfig(blocked=there, routes=there), OIF, ABLE).routes
    assert [r.blocks for r in blocked] == [True]
    assert [r.blocks for r in routed] == [False]
    assert {r.place for r in blocked} == {r.place for r in routed}


def test_links_that_a_route_covers_are_exceptions_and_others_are_not() -> None:
    """A part of a link is somebody's wish; the tailnet's own ranges cover nothing."""

    def nets(*texts: str) -> frozenset[Prefix]:
        return frozenset(map(ip_network, texts))

    links = nets("10.1.2.0/24", "192.168.1.0/24", "100.64.7.0/24", "2001:db8::/64")
    assert covered(nets("10.0.0.0/8", "100.64.0.0/10", "fd7a:115c:a1e0::/48"), links) == nets(
        "10.1.2.0/24"
    )
    assert covered(nets("192.168.1.0/24", "10.1.2.0/25", "2001:db8::/32"), links) == nets(
        "192.168.1.0/24", "2001:db8::/64"
    )
    assert covered(nets("0.0.0.0/0", "::/0"), links) == links
