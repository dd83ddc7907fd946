"""Ways to peers, routes and measurements, in the shapes of the LocalAPI."""

from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from tests.agent.backend.test_plan import node

from tailnet.agent.addr import AddrPort, ViaAddr, parse_ip
from tailnet.agent.backend.routetable import RouteFact, Verdict
from tailnet.agent.datapath.interface import Path
from tailnet.agent.localapi.reportview import describe_report
from tailnet.agent.localapi.view import paths, routes
from tailnet.agent.magicsock.candidate import Pong
from tailnet.agent.magicsock.peers import Policy, Switch
from tailnet.agent.magicsock.report import CandidateReport, PathReport
from tailnet.agent.netcheck.report import Report
from tailnet.agent.portmap.interface import PortmapSupport
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion

FAR = AddrPort(parse_ip("203.0.113.7"), 41641)
US = AddrPort(parse_ip("198.51.100.9"), 5)
US6 = AddrPort(parse_ip("2001:db8::9"), 6)
RELAYS = DERPMap(regions={7: DERPRegion(region_id=7, region_code="fra", region_name="Frankfurt")})
PEER = node(2, stable_id="n2", name="box.x.ts.net.")
USED = CandidateReport(
    FAR, ("map",), 90.0, (Pong(80.0, 0.02), Pong(95.0, 0.01, US)), 1280, True, ""
)
LOST = CandidateReport(US6, ("cmm",), None, (), 0, False, "no answer")


def about(path: Path, *candidates: CandidateReport, until: float | None = 106.5) -> PathReport:
    """What magicsock says."""
    history = (Switch(60.0, Path(None, relay=True), "new"), Switch(95.0, path, "pong"))
    return PathReport(Policy.AUTO, path, until, 7, candidates, 2, history)


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        (Path(FAR, relay=False), "direct", "203.0.113.7:41641"),
        (Path(FAR, relay=True), "both", "203.0.113.7:41641 and relay"),
        (Path(None, relay=True), "relay", "relay"),
        (Path(None, relay=False), "none", "no way"),
        (Path(ViaAddr(FAR, 9), relay=False), "peer-relay", "peer relay 203.0.113.7:41641:vni:9"),
        (
            Path(ViaAddr(FAR, 9), relay=True),
            "peer-relay-and-relay",
            "peer relay 203.0.113.7:41641:vni:9 and relay",
        ),
    ],
)
def test_a_path_has_a_kind_and_words(path: Path, kind: str, words: str) -> None:
    """Each of the six."""
    assert paths.kind(path) == kind
    assert paths.words(path) == words
    assert paths.summary(PEER, about(path), RELAYS, None).kind == kind


def test_a_way_is_shown_with_all_that_led_to_it() -> None:
    """The latest answer counts; ages are from now, which is 100 s here."""
    shown = paths.details(
        PEER, about(Path(FAR, relay=False), USED, LOST), RELAYS, US, lambda at: 100.0 - at
    )
    assert (shown.id, shown.name, shown.policy, shown.relay) == ("n2", "box", "auto", "fra")
    assert (shown.addr, shown.latency_seconds, shown.port_mapped) == (str(FAR), 0.01, True)
    assert (shown.trusted_for, shown.switches) == (6.5, 2)
    used, lost = shown.candidates
    assert (used.pongs, used.last_pong_age, used.last_ping_age) == ((0.02, 0.01), 5.0, 10.0)
    assert (used.addr, used.sources, used.used, used.wire_mtu) == (str(FAR), ("map",), True, 1280)
    assert (lost.last_pong_age, lost.last_ping_age, lost.verdict) == (None, None, "no answer")
    assert [(s.age, s.path, s.why) for s in shown.history] == [
        (40.0, "relay", "new"),
        (5.0, str(FAR), "pong"),
    ]


def test_what_is_not_known_of_a_way_is_left_out() -> None:
    """No answer, no trust, a region that the map lacks, a port that is another's."""
    old = USED._replace(used=False)
    shown = paths.details(
        PEER, about(Path(None, relay=True), old, until=None), DERPMap(), US, lambda at: 100.0 - at
    )
    assert (shown.relay, shown.addr, shown.latency_seconds) == ("", "", None)
    assert (shown.trusted_for, shown.port_mapped) == (None, False)
    assert (
        paths.details(
            PEER, about(Path(FAR, relay=False), until=90.0), RELAYS, None, lambda at: 100.0 - at
        ).trusted_for
        == 0.0
    )
    assert not paths.summary(PEER, about(Path(FAR, relay=False), USED), RELAYS, FAR).port_mapped
    assert not paths.summary(PEER, about(Path(FAR, relay=False), USED), RELAYS, None).port_mapped


def test_each_route_says_whose_it_is_and_what_becomes_of_it() -> None:
    """Ours has no peer; a reason stands where there is one."""
    net, home = ip_network("192.0.2.0/24"), ip_network("192.0.2.128/25")
    other = node(3, stable_id="n3", name="other.x.ts.net.")
    rows = routes.entries(
        (
            RouteFact(net, node(1), Verdict.OWN),
            RouteFact(net, PEER, Verdict.ACCEPTED),
            RouteFact(net, PEER, Verdict.PART, parts=(home,)),
            RouteFact(net, PEER, Verdict.TAKEN, other=other),
            RouteFact(net, PEER, Verdict.ACCEPTED, direct=(home,)),
            RouteFact(net, PEER, Verdict.OFF),
            RouteFact(net, PEER, Verdict.EXIT),
        ),
        own_id=1,
    )
    assert [(row.peer, row.peer_id) for row in rows] == [("", ""), *[("box", "n2")] * 6]
    assert [row.used for row in rows] == [False, True, True, False, True, False, True]
    assert {row.prefix for row in rows} == {"192.0.2.0/24"}
    assert rows[2].parts == ("192.0.2.128/25",)
    assert [row.why for row in rows] == [
        "",
        "",
        "",
        "other has it",
        "this machine's own network is reached directly: 192.0.2.128/25",
        "accept-routes is false",
        "",
    ]


def test_a_measurement_is_told_by_family_and_region() -> None:
    """Nanoseconds, as upstream; what no server saw is empty."""
    wall = datetime(2026, 3, 1, tzinfo=UTC)
    found = Report(
        latency={(7, 4): 0.02, (7, 6): 0.01, (3, 4): 0.005},
        seen=(US,),
        hard_nat=False,
        asked=True,
        udp=True,
        counters=((US, 2), (US6, 1)),
        can_send=frozenset({4}),
        icmp=None,
        portal=False,
    )
    support = PortmapSupport(upnp=True, pmp=False, pcp=None)
    shown = describe_report(found, 3, has_ipv6=True, support=support, wall=wall)
    assert (shown.now, shown.udp, shown.preferred_derp) == (wall, True, 3)
    assert (shown.ipv4, shown.ipv6, shown.ipv4_can_send, shown.ipv6_can_send) == (
        True, True, True, False,
    )  # fmt: skip
    assert (shown.os_has_ipv6, shown.icmpv4, shown.captive_portal) == (True, False, False)
    assert (shown.mapping_varies_by_dest_ip, shown.upnp, shown.pmp, shown.pcp) == (
        False, True, False, None,
    )  # fmt: skip
    assert shown.region_latency == {3: 5_000_000, 7: 10_000_000}
    assert shown.region_v4_latency == {3: 5_000_000, 7: 20_000_000}
    assert shown.region_v6_latency == {7: 10_000_000}
    assert (shown.global_v4, shown.global_v6) == (str(US), str(US6))
    assert (shown.global_v4_counters, shown.global_v6_counters) == ({str(US): 2}, {str(US6): 1})
    nothing = Report(latency={}, seen=(), hard_nat=None, asked=True)
    shown = describe_report(nothing, 0, has_ipv6=False, support=PortmapSupport(), wall=wall)
    assert (shown.ipv4, shown.ipv6, shown.global_v4, shown.global_v6) == (False, False, "", "")
