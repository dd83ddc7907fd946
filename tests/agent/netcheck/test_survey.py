"""When the network is measured."""

import contextlib
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.netcheck.measurement import AskOtherwise, CheckPortal
from tailnet.agent.netcheck.report import Report
from tailnet.agent.netcheck.survey import FULL_EVERY, Measured, Resolve, Survey, Wanted
from tailnet.agent.stun.messages import encode_response, parse_request_untrusted
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

ME = AddrPort.parse("5.5.5.5:5")


def region(n: int) -> DERPRegion:
    """With one server."""
    return DERPRegion(region_id=n, nodes=(DERPNode(region_id=n, ipv4=f"192.0.2.{n}"),))


def derp_map(*which: DERPRegion) -> DERPMap:
    """A map."""
    return DERPMap(regions={r.region_id: r for r in which})


def asked(it: Survey) -> dict[AddrPort, bytes]:
    """Drain: transaction by server."""
    sent = iter(it.poll_transmit, None)
    return {addr: parse_request_untrusted(data) for addr, data in sent}


def survey() -> Survey:
    """With a map of two regions."""
    counter = itertools.count(1)
    it = Survey(
        random_bytes=lambda n: next(counter).to_bytes(n, "big"), versions=lambda: frozenset({4})
    )
    it.measure(0.0)
    assert it.poll_event() is None
    it.set_map(derp_map(region(1), region(2)), 0.0)
    return it


def resolve(it: Survey) -> Resolve:
    """The next event."""
    event = it.poll_event()
    assert isinstance(event, Resolve)
    return event


def begin(it: Survey, now: float) -> Resolve:
    """Tell it the addresses it wants."""
    event = resolve(it)
    addresses = {
        (probe.node, 4): AddrPort.of(probe.node.ipv4, 3478)
        for probes in event.plan.values()
        for probe in probes
    }
    it.begin(event.turn, addresses, now)
    return event


def measure(it: Survey, now: float) -> Report:
    """Answer what is asked."""
    begin(it, now)
    for txid in asked(it).values():
        it.handle_response_untrusted(encode_response(txid, ME), now + 0.01)
    event = it.poll_event()
    assert isinstance(event, Measured)
    it.choose_home(event.report, now, alive=True)
    return event.report


def test_map_starts_a_measurement_once() -> None:
    """The same map again is no news."""
    it = survey()
    assert measure(it, 0.0).seen == (ME,)
    it.set_map(derp_map(region(1), region(2)), 1.0)
    assert it.poll_event() is None


def test_wishes_during_a_measurement_make_one_more() -> None:
    """However many."""
    it = survey()
    assert it.busy
    for _ in range(5):
        it.measure(0.0)
    measure(it, 0.0)
    measure(it, 1.0)
    assert it.poll_event() is None


def test_repeats_every_20_to_26_seconds_while_needed() -> None:
    """And not at all at rest."""
    it = survey()
    measure(it, 0.0)
    at = it.next_timeout()
    assert at is not None
    assert 20 <= at <= 26.1
    it.handle_timeout(at, needed=True)
    measure(it, at)
    at = it.next_timeout()
    assert at is not None
    it.handle_timeout(at, needed=False)
    assert it.next_timeout() is None
    assert it.poll_event() is None


@pytest.mark.parametrize(("drawn", "period"), [(0, 20.0), (0x8000, 23.0), (0xFFFF, 26.0)])
def test_the_period_is_drawn(drawn: int, period: float) -> None:
    """Or all nodes behind one NAT would measure at once."""
    numbers = itertools.count(1)

    def random_bytes(n: int) -> bytes:
        return (drawn if n == 2 else next(numbers)).to_bytes(n, "big")

    it = Survey(random_bytes=random_bytes, versions=lambda: frozenset({4}))
    it.set_map(derp_map(region(1)), 0.0)
    measure(it, 0.0)
    assert it.next_timeout() == pytest.approx(period, abs=0.2)


def test_another_network_drops_what_runs() -> None:
    """Late addresses of the old turn are ignored."""
    it = survey()
    old = resolve(it)
    it.measure(1.0, afresh=True)
    it.begin(old.turn, {}, 1.0)
    assert not asked(it)
    begin(it, 1.0)
    assert len(asked(it)) == 2


def test_resolving_that_hangs_ends_the_first_part() -> None:
    """Without servers relays are asked otherwise; whoever waits for endpoints gets them."""
    it = survey()
    turn = resolve(it).turn
    at = it.next_timeout()
    assert at == 3.0
    it.handle_timeout(at, needed=True)
    assert it.poll_event() == Wanted(turn, AskOtherwise([1, 2]), derp_map(region(1), region(2)))
    assert isinstance(it.poll_event(), Wanted)
    it.begin(turn, {}, 3.1)
    assert not asked(it)
    it.handle_asked(turn, 4.0)
    it.handle_portal(turn, None, 4.0)
    assert it.poll_event() == Measured(Report({}, (), None, asked=True, icmp=False), 0.0)


def full(it: Survey, now: float) -> bool:
    """Whether the next measurement is one of all regions; it is answered."""
    it.measure(now)
    first = begin(it, now)
    for txid in asked(it).values():
        it.handle_response_untrusted(encode_response(txid, ME), now + 0.01)
    event = it.poll_event()
    assert isinstance(event, Measured)
    it.choose_home(event.report, now, alive=True)
    return len(first.plan[2, 4]) == 3


def test_all_regions_every_five_minutes_or_when_asked() -> None:
    """In between the fastest."""
    it = survey()
    measure(it, 0.0)
    assert not full(it, 20.0)
    assert full(it, FULL_EVERY)
    assert not full(it, FULL_EVERY + 20)
    it.measure(400.0, full=True)
    assert len(resolve(it).plan[2, 4]) == 3


def blocked(it: Survey, now: float, *, portal: bool | None) -> Measured:
    """No STUN; HTTPS works."""
    turn = begin(it, now).turn
    it.handle_timeout(now + 3.0, needed=True)
    while isinstance(event := it.poll_event(), Wanted):
        match event.wish:
            case AskOtherwise(regions):
                for r in regions:
                    it.handle_latency(turn, r, 4, 0.05 * r, icmp=False)
                it.handle_asked(turn, now + 3.1)
            case CheckPortal():
                it.handle_portal(turn, portal, now + 3.2)
    assert isinstance(event, Measured)
    asked(it)
    return event


def test_network_without_udp_is_measured_otherwise() -> None:
    """The next measurement is a small one, unless a captive portal is in the way."""
    it = survey()
    report = blocked(it, 0.0, portal=False).report
    assert report.by_region() == {1: 0.05, 2: 0.1}
    assert not report.udp
    assert it.choose_home(report, 3.2, alive=False) == 1
    it.measure(20.0)
    assert len(resolve(it).plan[2, 4]) == 2


def test_where_only_https_goes_out_nothing_else_is_asked() -> None:
    """No STUN, no ICMP, no port 80; what runs by UDP is dropped, and so is what it found."""
    it = survey()
    begin(it, 0.0)
    it.set_only_https(only=True, now=1.0)
    turn = begin(it, 1.0).turn
    assert not asked(it)
    assert it.poll_event() == Wanted(
        turn, AskOtherwise([1, 2], icmp=False), derp_map(region(1), region(2))
    )
    it.handle_latency(turn, 2, 4, 0.05, icmp=False)
    it.handle_asked(turn, 1.2)
    event = it.poll_event()
    assert isinstance(event, Measured)
    assert event.report == Report({(2, 4): 0.05}, (), None, asked=True)
    assert it.choose_home(event.report, 1.2, alive=False) == 2
    assert it.poll_event() is None
    it.set_only_https(only=True, now=2.0)
    assert it.poll_event() is None
    it.set_only_https(only=False, now=3.0)
    assert measure(it, 3.0).udp


def test_behind_a_portal_every_measurement_is_a_full_one() -> None:
    """So that the login is noticed."""
    it = survey()
    report = blocked(it, 0.0, portal=True).report
    assert report.portal is True
    it.choose_home(report, 3.2, alive=False)
    assert full(it, 20.0)
    assert not full(it, 40.0)


SERVERS = {
    (node, 4): AddrPort.of(node.ipv4, 3478) for r in (1, 2) for node in region(r).nodes or ()
}


@given(st.lists(st.tuples(st.sampled_from("mabrtflop"), st.floats(0, 5)), max_size=40))
def test_no_course_of_events_makes_it_spin(course: list[tuple[str, float]]) -> None:
    """After any input the next deadline is ahead, or handling it moves on."""
    it = survey()
    now, turn, txid = 0.0, 0, bytes(12)
    inputs: dict[str, Callable[[], object]] = {
        "m": lambda: it.measure(now),
        "a": lambda: it.measure(now, afresh=True),
        "b": lambda: it.begin(turn, SERVERS, now),
        "f": lambda: it.send_failed(AddrPort.parse("192.0.2.1:3478"), now),
        "r": lambda: it.handle_response_untrusted(encode_response(txid, ME), now),
        "l": lambda: it.handle_latency(turn, 1, 4, 0.01, icmp=True),
        "o": lambda: it.handle_asked(turn, now),
        "p": lambda: it.handle_portal(turn, True, now),
        "t": lambda: None,
    }
    for what, delay in course:
        now += delay
        with contextlib.suppress(BadPacket):
            inputs[what]()
        for _ in range(20):
            for txid in asked(it).values():
                assert len(txid) == 12
            while (event := it.poll_event()) is not None:
                turn = turn if isinstance(event, Measured) else event.turn
            at = it.next_timeout()
            if at is None or at > now:
                break
            it.handle_timeout(now, needed=True)
        else:
            pytest.fail("busy loop")


def test_a_silent_family_is_asked_again_soon_and_then_as_ever() -> None:
    """While the other one works; peers are not told where we are by it until it answers."""
    node = DERPNode(region_id=1, ipv4="192.0.2.1", ipv6="2001::1")
    counter = itertools.count(1)
    it = Survey(
        random_bytes=lambda n: next(counter).to_bytes(n, "big"), versions=lambda: frozenset({4, 6})
    )
    it.set_map(derp_map(DERPRegion(region_id=1, nodes=(node,))), 0.0)
    server4, server6 = AddrPort.parse("192.0.2.1:3478"), AddrPort.parse("[2001::1]:3478")
    addresses = {(node, 4): server4, (node, 6): server6}

    def report(now: float, answering: tuple[AddrPort, ...]) -> tuple[Report, float]:
        it.begin(resolve(it).turn, addresses, now)
        answers = {server4: ME, server6: AddrPort.parse("[2001::5]:5")}
        while True:
            for server, txid in asked(it).items():
                if server in answering:
                    it.handle_response_untrusted(encode_response(txid, answers[server]), now)
            if isinstance(event := it.poll_event(), Measured):
                return event.report, now
            wanted = it.next_timeout()
            assert wanted is not None
            now = max(now, wanted)
            it.handle_timeout(now, needed=False)

    now = 0.0
    for pause in (1.0, 2.0, 4.0, 8.0):
        found, now = report(now, (server6,))
        assert found.versions == {6}
        assert it.next_timeout() == pytest.approx(now + pause)
        now += pause
        it.handle_timeout(now, needed=False)
    found, now = report(now, (server4, server6))
    assert set(found.seen) == {ME, AddrPort.parse("[2001::5]:5")}
    wanted = it.next_timeout()
    assert wanted is not None
    assert 20 <= wanted - now <= 26


def test_a_family_that_never_answers_is_asked_as_ever_in_the_end() -> None:
    """A route that leads nowhere costs four measurements more."""
    node = DERPNode(region_id=1, ipv4="192.0.2.1", ipv6="2001::1")
    counter = itertools.count(1)
    it = Survey(
        random_bytes=lambda n: next(counter).to_bytes(n, "big"), versions=lambda: frozenset({4, 6})
    )
    it.set_map(derp_map(DERPRegion(region_id=1, nodes=(node,))), 0.0)
    addresses = {(node, 4): AddrPort.parse("192.0.2.1:3478"), (node, 6): AddrPort.parse("[::1]:1")}
    measured, now = 0, 0.0
    while now < 300:
        event = it.poll_event()
        if isinstance(event, Resolve):
            it.begin(event.turn, addresses, now)
        measured += isinstance(event, Measured)
        for server, txid in asked(it).items():
            if server == addresses[node, 4]:
                it.handle_response_untrusted(encode_response(txid, ME), now)
        if event is None:
            wanted = it.next_timeout()
            assert wanted is not None
            now = max(now, wanted)
            it.handle_timeout(now, needed=True)
    assert measured <= 4 + 1 + 300 / 20
