"""Claims about tailnet.agent.derp.fleet, in virtual time."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tailnet.agent.derp.fleet import (
    BACKOFF_FIRST,
    BACKOFF_MAX,
    IDLE_CLOSE,
    MAX_ROUTES,
    RESTART_MAX,
    SWEEP,
    Action,
    Close,
    Fleet,
    Open,
    Phase,
    Prefer,
)
from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

PEER, OTHER = NodePublic(b"p" * 32), NodePublic(b"o" * 32)


def region(number: int, name: str = "a") -> DERPRegion:
    """A region of one relay."""
    return DERPRegion(region_id=number, nodes=(DERPNode(name=name, host_name="h"),))


R1, R2, R3 = region(1), region(2), region(3)
MAP = DERPMap(regions={1: R1, 2: R2, 3: R3, 4: None})


def actions(fleet: Fleet) -> list[Action]:
    """All there is to do."""
    out = []
    while (action := fleet.poll_action()) is not None:
        out.append(action)
    return out


def home_up() -> Fleet:
    """At home in region 1 since 0 s, whatever the jitter: random bytes are all ones."""
    fleet = Fleet(lambda n: b"\xff" * n)
    fleet.set_map(MAP, 0.0)
    fleet.set_home(1, 0.0)
    assert actions(fleet) == [Open(R1)]
    fleet.handle_up(1, 0.0)
    assert actions(fleet) == [Prefer(1, home=True)]
    return fleet


def also_up(fleet: Fleet, number: int, now: float) -> None:
    """Connect to another region, for a peer whose home it is."""
    assert fleet.route(number, OTHER, now) == number
    assert actions(fleet) == [Open(region(number))]
    fleet.handle_up(number, now)


def test_home_waits_for_the_map() -> None:
    """The two come in any order."""
    fleet = Fleet(bytes)
    fleet.set_home(2, 0.0)
    assert actions(fleet) == []
    fleet.set_map(MAP, 1.0)
    assert actions(fleet) == [Open(R2)]


def test_a_peer_is_written_to_by_its_home() -> None:
    """And its home is dialled if need be, once."""
    fleet = home_up()
    assert fleet.route(1, PEER, 1.0) == 1
    assert fleet.route(2, PEER, 1.0) == 2
    assert fleet.route(2, PEER, 1.0) == 2
    assert actions(fleet) == [Open(R2)]


def test_a_peer_heard_on_our_home_is_answered_there() -> None:
    """Without dialling its home; but an open connection to its home wins."""
    fleet = home_up()
    fleet.handle_received(1, [PEER])
    assert fleet.route(2, PEER, 1.0) == 1
    assert actions(fleet) == []
    also_up(fleet, 2, 1.0)
    assert fleet.route(2, PEER, 2.0) == 2


def test_the_learned_route_serves_while_home_is_dialled() -> None:
    """Dialling is not a reason to wait."""
    fleet = home_up()
    fleet.route(2, PEER, 1.0)
    fleet.handle_received(1, [PEER])
    assert fleet.route(2, PEER, 1.0) == 1


def test_a_peer_without_home_needs_a_learned_route() -> None:
    """Else there is no way to it."""
    fleet = home_up()
    assert fleet.route(0, PEER, 1.0) == 0
    fleet.handle_received(1, [PEER])
    assert fleet.route(0, PEER, 1.0) == 1


@pytest.mark.parametrize("absent", [4, 5, 65535])
def test_a_region_that_the_map_lacks_is_no_way(absent: int) -> None:
    """Null in the map is absent too."""
    fleet = home_up()
    assert fleet.route(absent, PEER, 1.0) == 0
    assert actions(fleet) == []


def test_peer_gone_removes_the_route_of_this_connection_only() -> None:
    """What another relay says of it does not matter."""
    fleet = home_up()
    also_up(fleet, 2, 1.0)
    fleet.handle_received(1, [PEER])
    fleet.handle_peer_gone(2, PEER)
    assert fleet.route(0, PEER, 1.0) == 1
    fleet.handle_peer_gone(1, PEER)
    assert fleet.route(0, PEER, 1.0) == 0


def test_the_last_connection_a_peer_was_heard_on_counts() -> None:
    """Peers move."""
    fleet = home_up()
    also_up(fleet, 2, 1.0)
    fleet.handle_received(1, [PEER])
    fleet.handle_received(2, [PEER])
    assert fleet.route(0, PEER, 1.0) == 2


def test_a_failed_connection_takes_its_routes_along() -> None:
    """They belong to the connection, not to the region."""
    fleet = home_up()
    fleet.handle_received(1, [PEER])
    fleet.handle_failed(1, 5.0)
    assert fleet.live() == frozenset()
    assert fleet.route(0, PEER, 5.0) == 0
    fleet.handle_timeout(fleet.next_timeout() or 0.0)
    fleet.handle_up(1, 6.0)
    assert fleet.route(0, PEER, 6.0) == 0


def test_routes_are_bounded() -> None:
    """The oldest goes; a relay can make up senders."""
    fleet = home_up()
    fleet.handle_received(1, [NodePublic(i.to_bytes(32, "big")) for i in range(MAX_ROUTES + 5)])
    assert fleet.route(0, NodePublic((4).to_bytes(32, "big")), 1.0) == 0
    assert fleet.route(0, NodePublic((5).to_bytes(32, "big")), 1.0) == 1


def test_a_connection_without_writes_closes_after_a_minute() -> None:
    """At the next sweep, and never the home; what came in does not keep it."""
    fleet = home_up()
    also_up(fleet, 2, 10.0)
    fleet.route(2, OTHER, 20.0)
    closed_at = None
    for tick in range(12):
        now = fleet.next_timeout()
        if now is None:
            break
        assert now <= 10.0 + (tick + 1) * SWEEP
        fleet.handle_received(2, [OTHER])
        fleet.handle_timeout(now)
        if actions(fleet) == [Close(2)]:
            closed_at = now
    assert closed_at is not None
    assert 20.0 + IDLE_CLOSE <= closed_at <= 20.0 + IDLE_CLOSE + SWEEP
    assert fleet.live() == {1}
    assert fleet.next_timeout() is None


def test_the_old_home_is_told_and_idles_away() -> None:
    """Its minute begins with the move."""
    fleet = home_up()
    fleet.set_home(2, 100.0)
    assert actions(fleet) == [Prefer(1, home=False), Open(R2)]
    fleet.handle_up(2, 101.0)
    assert actions(fleet) == [Prefer(2, home=True)]
    while (at := fleet.next_timeout()) is not None and at < 160.0:
        fleet.handle_timeout(at)
        assert actions(fleet) == []
    fleet.handle_timeout(at or 0.0)
    assert actions(fleet) == [Close(1)]


def test_a_home_that_is_measured_again_hears_nothing() -> None:
    """Nor is it dialled again."""
    fleet = home_up()
    fleet.set_home(1, 100.0)
    assert actions(fleet) == []


def test_no_home_keeps_nothing_open_for_ever() -> None:
    """Region 0 is none."""
    fleet = home_up()
    fleet.set_home(0, 1.0)
    assert actions(fleet) == [Prefer(1, home=False)]
    fleet.handle_timeout(1.0 + SWEEP)
    fleet.handle_timeout(200.0)
    assert actions(fleet) == [Close(1)]


def test_failures_back_off_to_five_seconds_and_never_stop() -> None:
    """A relay that does not answer is asked for ever."""
    fleet = home_up()
    now, waits = 0.0, []
    for _ in range(8):
        fleet.handle_failed(1, now)
        at = fleet.next_timeout()
        assert at is not None
        waits.append(at - now)
        fleet.handle_timeout(at - 0.001)
        assert actions(fleet) == []
        fleet.handle_timeout(at)
        assert actions(fleet) == [Open(R1)]
        now = at
    assert waits == pytest.approx(
        [BACKOFF_FIRST * 2**i for i in range(5)] + [BACKOFF_MAX] * 3, rel=1e-3
    )


def test_jitter_spreads_the_first_retry() -> None:
    """Between half and all of the wait."""
    fleet = Fleet(lambda n: b"\0" * n)
    fleet.set_map(MAP, 0.0)
    fleet.set_home(1, 0.0)
    fleet.handle_failed(1, 1.0)
    assert fleet.next_timeout() == 1.0 + BACKOFF_FIRST / 2


@pytest.mark.parametrize("heard", [True, False])
def test_a_good_connection_resets_the_backoff(heard: bool) -> None:
    """A packet, or ten seconds of life; being accepted and thrown out is not enough."""
    fleet = home_up()
    for _ in range(6):
        fleet.handle_failed(1, 1.0)
        fleet.handle_timeout(7.0)
    fleet.handle_up(1, 10.0)
    if heard:
        fleet.handle_received(1, [PEER])
    failed = 11.0 if heard else 20.0
    fleet.handle_failed(1, failed)
    assert (fleet.next_timeout() or 0) <= failed + BACKOFF_FIRST
    fleet.handle_timeout(21.0)
    for _ in range(5):
        fleet.handle_up(1, 21.0)
        fleet.handle_failed(1, 22.0)
        fleet.handle_timeout(30.0)
    fleet.handle_failed(1, 30.0)
    assert (fleet.next_timeout() or 0) >= 34.9


@pytest.mark.parametrize(("asked", "waited"), [(3.0, 3.0), (1e6, RESTART_MAX), (0.0, 0.0)])
def test_a_restarting_relay_is_left_alone_as_long_as_it_asks(asked: float, waited: float) -> None:
    """Within reason, and once; then not all its clients at the same moment."""
    fleet = home_up()
    fleet.handle_restarting(1, asked)
    fleet.handle_failed(1, 100.0)
    assert fleet.next_timeout() == pytest.approx(100.0 + waited + BACKOFF_FIRST)
    fleet.handle_timeout(200.0)
    fleet.handle_failed(1, 200.0)
    assert (fleet.next_timeout() or 0) <= 200.0 + BACKOFF_MAX


def test_a_changed_region_is_closed_and_home_reopened() -> None:
    """By its new definition; others come back on demand; the unchanged stay."""
    fleet = home_up()
    also_up(fleet, 2, 1.0)
    also_up(fleet, 3, 1.0)
    new = region(1, "new")
    fleet.set_map(DERPMap(regions={1: new, 2: R2, 3: region(3, "new")}), 2.0)
    assert actions(fleet) == [Close(1), Close(3), Open(new)]
    assert fleet.live() == {2}
    fleet.set_map(DERPMap(regions={}), 3.0)
    assert set(actions(fleet)) == {Close(1), Close(2)}


def test_a_new_key_reconnects_home() -> None:
    """Everything else comes back on demand."""
    fleet = home_up()
    also_up(fleet, 2, 1.0)
    fleet.restart(2.0)
    assert actions(fleet) == [Close(1), Close(2), Open(R1)]


def test_a_link_change_ends_the_waiting() -> None:
    """The new network may well work."""
    fleet = home_up()
    fleet.handle_failed(1, 1.0)
    fleet.link_changed(1.01)
    fleet.handle_timeout(1.01)
    assert actions(fleet) == [Open(R1)]


def test_news_of_a_closed_connection_changes_nothing() -> None:
    """It may have been on its way."""
    fleet = home_up()
    fleet.handle_up(2, 1.0)
    fleet.handle_failed(2, 1.0)
    fleet.handle_received(2, [PEER])
    fleet.handle_restarting(2, 1.0)
    assert fleet.live() == {1}
    assert fleet.route(0, PEER, 1.0) == 0


class FleetModel(RuleBasedStateMachine):
    """Any order of wishes and events, against what the shell would have open."""

    regions = st.integers(0, 4)

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.fleet = Fleet(lambda n: b"\x80" * n)
        self.open: dict[int, bool] = {}  # region → accepted

    def settle(self) -> None:
        """Do what the shell does."""
        for action in actions(self.fleet):
            match action:
                case Open(opened):
                    assert opened.region_id not in self.open
                    self.open[opened.region_id] = False
                case Close(number):
                    del self.open[number]
                case Prefer(number, _):
                    assert self.open[number]

    @rule(numbers=st.sets(st.integers(1, 4)), name=st.sampled_from("ab"))
    def set_map(self, numbers: set[int], name: str) -> None:
        """A new map."""
        regions: dict[int, DERPRegion | None] = {n: region(n, name) for n in numbers}
        self.fleet.set_map(DERPMap(regions=regions), self.now)
        self.settle()

    @rule(number=regions)
    def set_home(self, number: int) -> None:
        """A new home."""
        self.fleet.set_home(number, self.now)
        self.settle()

    @rule(number=regions, peer=st.sampled_from([PEER, OTHER]))
    def route(self, number: int, peer: NodePublic) -> None:
        """A packet for a peer always gets a link that exists, or none."""
        via = self.fleet.route(number, peer, self.now)
        self.settle()
        assert via == 0 or self.fleet.phase(via) is not None

    @rule(number=regions)
    def accept(self, number: int) -> None:
        """A relay accepts us."""
        if number in self.open:
            self.open[number] = True
            self.fleet.handle_up(number, self.now)
            self.settle()

    @rule(number=regions, peer=st.sampled_from([PEER, OTHER]))
    def receive(self, number: int, peer: NodePublic) -> None:
        """A packet comes."""
        if self.open.get(number):
            self.fleet.handle_received(number, [peer])

    @rule(number=regions)
    def fail(self, number: int) -> None:
        """A connection or an attempt ends."""
        if self.open.pop(number, None) is not None:
            self.fleet.handle_failed(number, self.now)
            self.settle()

    @rule(after=st.sampled_from([0.0, 0.1, 5.0, 16.0, 61.0]))
    def wait(self, after: float) -> None:
        """Time passes."""
        self.now += after
        self.fleet.handle_timeout(self.now)
        self.settle()
        at = self.fleet.next_timeout()
        assert at is None or at > self.now, "no busy loop"

    @invariant()
    def live_is_what_was_accepted(self) -> None:
        """No more, no less."""
        assert self.fleet.live() == {n for n, accepted in self.open.items() if accepted}

    @invariant()
    def home_is_never_given_up(self) -> None:
        """It is up, being dialled, or waits to be."""
        home = self.fleet.home
        assert not self.fleet.knows(home) or self.fleet.phase(home) is not None
        assert home in self.open or self.fleet.phase(home) in {None, Phase.WAITING}


TestFleetModel = FleetModel.TestCase
TestFleetModel.settings = settings(max_examples=40, stateful_step_count=30)
