"""The home relay."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.home import HISTORY, Home, facts, net_info
from tailnet.agent.magicsock.netcheck import Report
from tailnet.agent.portmap.interface import Portmap, PortmapSupport
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion, HomeParams


def region(n: int, *, avoid: bool = False, no_measure_no_home: bool = False) -> DERPRegion:
    """With one relay."""
    return DERPRegion(
        region_id=n,
        avoid=avoid,
        no_measure_no_home=no_measure_no_home,
        nodes=(DERPNode(name=f"{n}a", region_id=n),),
    )


def regions(*which: DERPRegion, scores: dict[int, float] | None = None) -> DERPMap:
    """A map."""
    return DERPMap(
        regions={r.region_id: r for r in which}, home_params=HomeParams(region_score=scores)
    )


MAP = regions(region(1), region(2), region(3))


def settled(latency: Mapping[int, float] | None = None, derp_map: DERPMap = MAP) -> Home:
    """At home since 0."""
    home = Home()
    home.update(latency or {2: 0.050}, derp_map, 0.0, alive=False)
    return home


def test_fastest_region_is_home() -> None:
    """By the best of recent measurements."""
    assert settled({1: 0.050, 2: 0.020, 3: 0.030}).region == 2


def test_home_is_left_only_for_a_clearly_better_one() -> None:
    """Ten milliseconds and a third; peers must be told of each move."""
    home = settled({1: 0.060, 2: 0.050})
    assert home.update({1: 0.041, 2: 0.050}, MAP, 20.0, alive=True) == 2
    assert home.update({1: 0.034, 2: 0.050}, MAP, 40.0, alive=True) == 2
    assert home.update({1: 0.030, 2: 0.050}, MAP, 60.0, alive=True) == 1


def test_small_gains_do_not_count_near_by() -> None:
    """From 9 to 1 ms nobody notices."""
    assert settled({2: 0.009}).update({1: 0.001, 2: 0.009}, MAP, 1.0, alive=True) == 2


def test_silent_home_is_kept_while_its_connection_works() -> None:
    """One lost STUN answer is no reason; a dead connection is."""
    assert settled().update({1: 0.001}, MAP, 1.0, alive=True) == 2
    assert settled().update({1: 0.001}, MAP, 1.0, alive=False) == 1


def test_nothing_answers() -> None:
    """The home is kept, or the first region taken: a node without home cannot be found."""
    assert settled().update({}, MAP, 1.0, alive=False) == 2
    assert Home().update({}, MAP, 0.0, alive=False) == 1
    assert Home().update({}, DERPMap(), 0.0, alive=False) == 0


def test_first_region_is_not_one_to_avoid() -> None:
    """Unless there is no other."""
    avoid, mute = region(1, avoid=True), region(2, no_measure_no_home=True)
    assert Home().update({}, regions(avoid, mute, region(3)), 0.0, alive=False) == 3
    assert Home().update({}, regions(avoid, mute), 0.0, alive=False) == 1
    assert Home().update({}, regions(mute), 0.0, alive=False) == 2


def test_flags_of_regions_are_honoured() -> None:
    """However fast they are; STUN-only regions relay nothing."""
    stun_only = DERPRegion(region_id=4, nodes=(DERPNode(region_id=4, stun_only=True),))
    derp_map = regions(
        region(1, avoid=True), region(2, no_measure_no_home=True), region(3), stun_only
    )
    home = settled({1: 0.001, 2: 0.001, 3: 0.1, 4: 0.001}, derp_map)
    assert home.region == 3


def test_home_that_left_the_map_is_left() -> None:
    """Nobody could reach us there."""
    home = settled({2: 0.050})
    assert home.update({}, regions(region(1), region(3)), 1.0, alive=True) == 1


def test_scores_scale_latencies() -> None:
    """Control may prefer a region."""
    derp_map = regions(region(1), region(2), scores={1: 0.1})
    assert settled({1: 0.100, 2: 0.050}, derp_map).region == 1


def test_history_is_bounded_in_time() -> None:
    """An old record does not count for ever."""
    home = settled({1: 0.020, 2: 0.010})
    home.update({1: 0.020, 2: 0.100}, MAP, HISTORY + 1, alive=True)
    assert home.latencies() == {1: 0.020, 2: 0.100}


def test_net_info_says_what_was_found() -> None:
    """Unknown is absent, and latencies alone are no news."""
    seen = (AddrPort.parse("5.5.5.5:1"),)
    info = net_info(Report({(1, 4): 0.01}, seen, None, asked=True), 1, has_ipv6=True)
    assert info.working_udp is True
    assert info.working_ipv6 is False
    assert info.os_has_ipv6 is True
    assert info.mapping_varies_by_dest_ip is None
    assert info.derp_latency == {"1-v4": 0.01}
    later = net_info(Report({(1, 4): 0.02}, seen, None, asked=True), 1, has_ipv6=True)
    assert facts(later) == facts(info)
    silent = net_info(Report({}, (), None, asked=True), 1, has_ipv6=False)
    assert silent.working_udp is False
    unasked = net_info(Report({}, (), None, asked=False), 1, has_ipv6=False)
    assert unasked.working_udp is None


def test_net_info_says_what_the_gateway_does_for_us() -> None:
    """What was not asked is absent; a change of it is news."""
    report = Report({}, (), None, asked=True)
    unasked = net_info(report, 1, has_ipv6=False)
    assert (unasked.upnp, unasked.pmp, unasked.pcp, unasked.have_port_map) == (*[None] * 3, False)
    support = PortmapSupport(upnp=True, pmp=False, pcp=True)
    portmap = Portmap(AddrPort.parse("5.5.5.5:1"), support)
    info = net_info(report, 1, has_ipv6=False, portmap=portmap)
    assert (info.upnp, info.pmp, info.pcp, info.have_port_map) == (True, False, True, True)
    assert facts(info) != facts(unasked)


measurements = st.dictionaries(st.integers(1, 4), st.floats(0.0001, 1.0))


@given(st.lists(st.tuples(measurements, st.booleans()), min_size=1, max_size=30))
def test_there_is_always_a_home_in_the_map(course: list[tuple[dict[int, float], bool]]) -> None:
    """Whatever answers, as long as there is a region."""
    home = Home()
    for i, (latency, alive) in enumerate(course):
        assert home.update(latency, MAP, i * 20.0, alive=alive) in {1, 2, 3}
