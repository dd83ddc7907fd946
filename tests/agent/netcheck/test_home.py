"""The home relay."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.netcheck.home import HISTORY, Home
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
    """The home is kept, or any region taken: a node without home cannot be found."""
    assert settled().update({}, MAP, 1.0, alive=False) == 2
    assert [Home(seed).update({}, MAP, 0.0, alive=False) for seed in range(5)] == [1, 2, 3, 1, 2]
    assert Home().update({}, DERPMap(), 0.0, alive=False) == 0


def test_home_that_works_is_kept_while_nobody_would_be_told_of_a_move() -> None:
    """Peers would look for us at the old one; a dead one is left all the same."""
    assert settled().update({1: 0.001, 2: 0.050}, MAP, 1.0, alive=True, told=False) == 2
    assert settled().update({1: 0.001}, MAP, 1.0, alive=False, told=False) == 1
    assert Home().update({1: 0.001}, MAP, 0.0, alive=False, told=False) == 1


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


measurements = st.dictionaries(st.integers(1, 4), st.floats(0.0001, 1.0))


@given(st.lists(st.tuples(measurements, st.booleans()), min_size=1, max_size=30))
def test_there_is_always_a_home_in_the_map(course: list[tuple[dict[int, float], bool]]) -> None:
    """Whatever answers, as long as there is a region."""
    home = Home()
    for i, (latency, alive) in enumerate(course):
        assert home.update(latency, MAP, i * 20.0, alive=alive) in {1, 2, 3}


def test_a_forced_home_is_kept_while_it_answers() -> None:
    """However slow; one that does not answer, or does not exist, forces nothing."""
    home = settled({1: 0.010, 2: 0.050})
    home.forced = 2
    assert home.update({1: 0.010, 2: 0.050}, MAP, 20.0, alive=True) == 2
    assert home.update({1: 0.010}, MAP, 40.0, alive=False) == 1
    home.forced = 9
    assert home.update({1: 0.010, 2: 0.050}, MAP, 60.0, alive=True) == 1


def test_no_home_can_be_forced() -> None:
    """And is over with the force."""
    home = settled({1: 0.010})
    home.forced = 0
    assert home.update({1: 0.010}, MAP, 20.0, alive=True) == 0
    home.forced = None
    assert home.update({1: 0.010}, MAP, 40.0, alive=False) == 1


def test_a_picked_home_is_for_one_measurement() -> None:
    """The next one moves back if that is clearly better; where there is no other there is none."""
    home = settled({1: 0.010, 2: 0.050})
    assert home.pick(MAP)
    assert home.update({1: 0.010, 2: 0.050}, MAP, 20.0, alive=True) == 2
    assert home.update({1: 0.010, 2: 0.050}, MAP, 40.0, alive=True) == 1
    assert not settled({1: 0.010}).pick(regions(region(1)))
