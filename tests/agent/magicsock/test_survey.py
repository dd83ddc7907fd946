"""Measurements of the network, and when they happen."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.magicsock.netcheck import (
    SETTLE,
    TIMEOUT,
    Measurement,
    Report,
    Target,
    regions_to_ask,
)
from tailnet.agent.magicsock.survey import Measured, Resolve, Survey
from tailnet.agent.stun.messages import encode_response, parse_request_untrusted
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

T1 = Target(1, AddrPort.parse("1.1.1.1:3478"))
T2 = Target(2, AddrPort.parse("2.2.2.2:3478"))
T6 = Target(1, AddrPort.parse("[2001::1]:3478"))
ME = AddrPort.parse("5.5.5.5:5")
ME2 = AddrPort.parse("5.5.5.5:6")
ME6 = AddrPort.parse("[2001::5]:5")


def region(n: int, *, avoid: bool = False, mute: bool = False, stun_port: int = 0) -> DERPRegion:
    """With one server."""
    node = DERPNode(region_id=n, stun_port=stun_port)
    return DERPRegion(region_id=n, avoid=avoid, no_measure_no_home=mute, nodes=(node,))


def derp_map(*which: DERPRegion) -> DERPMap:
    """A map."""
    return DERPMap(regions={r.region_id: r for r in which})


def measurement(*targets: Target) -> Measurement:
    """Begun at 0."""
    counter = itertools.count(1)
    return Measurement(targets, 0.0, lambda n: next(counter).to_bytes(n, "big"))


def asked(it: Measurement | Survey) -> dict[AddrPort, bytes]:
    """Drain: transaction by server."""
    sent = iter(it.poll_transmit, None)
    return {addr: parse_request_untrusted(data) for addr, data in sent}


def test_each_server_is_asked_until_it_answers() -> None:
    """At 0, 0.1, 0.2, 1 and 2 s; each try is a transaction of its own."""
    it = measurement(T1, T2)
    first = asked(it)
    assert set(first) == {T1.addr, T2.addr}
    it.handle_response_untrusted(encode_response(first[T1.addr], ME), 0.05)
    times = []
    while (at := it.next_timeout()) is not None:
        it.handle_timeout(at)
        if T2.addr in (more := asked(it)):
            times.append(at)
            assert T1.addr not in more
    assert times == [0.1, 0.2, 1.0, 2.0]
    assert it.done
    report = it.report()
    assert report.latency == {(1, 4): 0.05}
    assert report.seen == (ME,)
    assert report.hard_nat is None


def test_done_when_all_answered() -> None:
    """Without waiting for anything; two servers that agree mean an easy NAT."""
    it = measurement(T1, T2, T6)
    txids = asked(it)
    it.handle_response_untrusted(encode_response(txids[T2.addr], ME), 0.02)
    it.handle_response_untrusted(encode_response(txids[T1.addr], ME), 0.03)
    it.handle_response_untrusted(encode_response(txids[T6.addr], ME6), 0.04)
    assert it.done
    assert it.next_timeout() is None
    assert it.report() == Report(
        {(2, 4): 0.02, (1, 4): 0.03, (1, 6): 0.04}, (ME, ME6), hard_nat=False, asked=True
    )
    assert it.report().by_region() == {1: 0.03, 2: 0.02}


def test_hard_nat_shows_as_two_addresses() -> None:
    """Only the faster server's is told: the others are good for nobody else."""
    it = measurement(T1, T2)
    txids = asked(it)
    it.handle_response_untrusted(encode_response(txids[T2.addr], ME2), 0.02)
    it.handle_response_untrusted(encode_response(txids[T1.addr], ME), 0.03)
    assert it.report().hard_nat is True
    assert it.report().seen == (ME2,)


def test_silent_family_is_not_waited_for_long() -> None:
    """Every region answered in one family: a little later that is enough."""
    it = measurement(T1, T6)
    it.handle_response_untrusted(encode_response(asked(it)[T1.addr], ME), 0.02)
    assert not it.done
    while (at := it.next_timeout()) is not None and at < SETTLE:
        it.handle_timeout(at)
    assert it.next_timeout() == SETTLE
    it.handle_timeout(SETTLE)
    assert it.done


def test_refused_sends_are_not_waited_for() -> None:
    """A machine without IPv6 knows at once."""
    it = measurement(T1, T6)
    it.send_failed(T6.addr, 0.0)
    it.handle_response_untrusted(encode_response(asked(it)[T1.addr], ME), 0.02)
    assert it.done


def test_no_answer_ends_after_three_seconds() -> None:
    """A timeout is a result."""
    it = measurement(T1)
    it.handle_timeout(TIMEOUT)
    assert it.done
    assert it.report() == Report({}, (), None, asked=True)
    assert measurement().report() == Report({}, (), None, asked=False)


def test_foreign_answers_are_refused() -> None:
    """Only our own transactions count, and garbage is a bad packet."""
    it = measurement(T1)
    for data in (encode_response(b"?" * 12, ME), b"", b"\x01\x01garbage"):
        with pytest.raises(BadPacket):
            it.handle_response_untrusted(data, 0.01)


def test_full_round_asks_everyone_others_the_fastest_and_home() -> None:
    """Mute regions never; those to avoid only if we live there."""
    regions = derp_map(
        *(region(n) for n in range(1, 7)),
        region(7, avoid=True),
        region(8, mute=True),
        region(9, stun_port=-1),
    )
    history = {n: n / 100 for n in range(2, 8)} | {7: 0.001}
    assert regions_to_ask(regions, history, 6, full=True) == [7, 2, 3, 4, 5, 6, 1]
    assert regions_to_ask(regions, history, 6, full=False) == [2, 3, 4, 6]
    assert regions_to_ask(regions, history, 7, full=False) == [7, 2, 3]
    assert regions_to_ask(regions, {}, 0, full=False) == [1, 2, 3, 4, 5, 6, 7]


def survey() -> Survey:
    """With a map of two regions."""
    it = Survey(random_bytes=bytes)
    it.measure(0.0)
    assert it.poll_event() is None
    it.set_map(derp_map(region(1), region(2)), 0.0)
    return it


def resolve(it: Survey) -> Resolve:
    """The next event."""
    event = it.poll_event()
    assert isinstance(event, Resolve)
    return event


def measure(it: Survey, now: float) -> Report:
    """Answer what is asked."""
    it.begin(resolve(it).turn, [T1], now)
    for txid in asked(it).values():
        it.handle_response_untrusted(encode_response(txid, ME), now + 0.01)
    event = it.poll_event()
    assert isinstance(event, Measured)
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


def test_another_network_drops_what_runs() -> None:
    """Late addresses of the old turn are ignored."""
    it = survey()
    old = resolve(it)
    it.measure(1.0, afresh=True)
    new = resolve(it)
    it.begin(old.turn, [T1], 1.0)
    assert not asked(it)
    it.begin(new.turn, [T2], 1.0)
    assert set(asked(it)) == {T2.addr}


def test_resolving_that_hangs_ends_the_measurement() -> None:
    """Without servers; whoever waits for endpoints gets them."""
    it = survey()
    turn = resolve(it).turn
    at = it.next_timeout()
    assert at == 3.0
    it.handle_timeout(at, needed=True)
    assert it.poll_event() == Measured(Report({}, (), None, asked=False))
    it.begin(turn, [T1], 3.1)
    assert not asked(it)


@given(st.lists(st.tuples(st.sampled_from("mabrtf"), st.floats(0, 5)), max_size=40))
def test_no_course_of_events_makes_it_spin(course: list[tuple[str, float]]) -> None:
    """After any input the next deadline is ahead, or handling it moves on."""
    it = survey()
    now, turn, txid = 0.0, 0, bytes(12)
    for what, delay in course:
        now += delay
        match what:
            case "m":
                it.measure(now)
            case "a":
                it.measure(now, afresh=True)
            case "b":
                it.begin(turn, [T1, T2], now)
            case "f":
                it.send_failed(T1.addr, now)
            case "r":
                try:
                    it.handle_response_untrusted(encode_response(txid, ME), now)
                except BadPacket:
                    continue
            case _:
                pass
        for _ in range(20):
            for txid in asked(it).values():
                assert len(txid) == 12
            while (event := it.poll_event()) is not None:
                turn = event.turn if isinstance(event, Resolve) else turn
            at = it.next_timeout()
            if at is None or at > now:
                break
            it.handle_timeout(now, needed=True)
        else:
            pytest.fail("busy loop")
