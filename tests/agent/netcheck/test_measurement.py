"""One measurement."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.netcheck.measurement import (
    SETTLE,
    STUN_TIMEOUT,
    AskOtherwise,
    CheckPortal,
    Measurement,
)
from tailnet.agent.netcheck.plan import Plan, Probe
from tailnet.agent.stun.messages import encode_response, parse_request_untrusted
from tailnet.agent.tailcfg.derpmap import DERPNode

ME = AddrPort.parse("5.5.5.5:5")
ME2 = AddrPort.parse("5.5.5.5:6")
ME6 = AddrPort.parse("[2001::5]:5")
THRICE = (0.0, 0.1, 0.2)


def server(region: int, version: int = 4) -> AddrPort:
    """Where a region's server is."""
    return AddrPort.parse(f"192.0.2.{region}:3478" if version == 4 else f"[2001::{region}]:3478")


def measurement(
    *which: tuple[int, int],
    full: bool = True,
    delays: Iterable[float] = THRICE,
    regions: Iterable[int] | None = None,
) -> Measurement:
    """Of these regions and families, begun at 0."""
    nodes = {r: DERPNode(name=str(r), region_id=r) for r, _ in which}
    plan: Plan = {(r, v): tuple(Probe(d, nodes[r]) for d in delays) for r, v in which}
    counter = itertools.count(1)
    return Measurement(
        plan,
        {(nodes[r], v): server(r, v) for r, v in which},
        sorted({r for r, _ in which}) if regions is None else list(regions),
        0.0,
        lambda n: next(counter).to_bytes(n, "big"),
        full=full,
    )


def asked(it: Measurement) -> dict[AddrPort, bytes]:
    """Drain: transaction by server."""
    sent = iter(it.poll_transmit, None)
    return {addr: parse_request_untrusted(data) for addr, data in sent}


def answer(it: Measurement, txid: bytes, now: float, seen: AddrPort = ME) -> None:
    """A STUN server's."""
    it.handle_response_untrusted(encode_response(txid, seen), now)


def done(it: Measurement) -> bool:
    """Asked anew each time, as a type checker does not know."""
    return it.done


def run(it: Measurement, until: float = 99.0) -> dict[float, set[AddrPort]]:
    """Let time pass: who is asked when."""
    out: dict[float, set[AddrPort]] = {}
    while (at := it.next_timeout()) is not None and at <= until:
        it.handle_timeout(at)
        if servers := set(asked(it)):
            out[round(at, 6)] = servers
    return out


def test_each_server_is_asked_until_it_answers() -> None:
    """As planned; each try is a transaction of its own, and an answer ends its series."""
    it = measurement((1, 4), (2, 4))
    first = asked(it)
    assert set(first) == {server(1), server(2)}
    answer(it, first[server(1)], 0.05)
    assert run(it) == {0.1: {server(2)}, 0.2: {server(2)}}
    assert done(it)
    report = it.report()
    assert report.latency == {(1, 4): 0.05}
    assert report.seen == (ME,)
    assert report.hard_nat is None
    assert report.udp


def test_done_when_all_answered() -> None:
    """Without waiting for anything; two servers that agree mean an easy NAT."""
    it = measurement((1, 4), (2, 4), (1, 6))
    txids = asked(it)
    answer(it, txids[server(2)], 0.02)
    answer(it, txids[server(1)], 0.03)
    assert not done(it)
    answer(it, txids[server(1, 6)], 0.04, ME6)
    assert done(it)
    assert it.next_timeout() is None
    report = it.report()
    assert report.latency == {(2, 4): 0.02, (1, 4): 0.03, (1, 6): 0.04}
    assert report.seen == (ME, ME6)
    assert report.counters == ((ME, 2), (ME6, 1))
    assert report.hard_nat is False
    assert report.can_send == {4, 6}
    assert report.first_seen(6) == ME6
    assert report.portal is False


def test_hard_nat_shows_as_two_addresses() -> None:
    """Only the first answer's is told: the others are good for nobody else."""
    it = measurement((1, 4), (2, 4))
    txids = asked(it)
    answer(it, txids[server(2)], 0.02, ME2)
    answer(it, txids[server(1)], 0.03)
    assert it.report().hard_nat is True
    assert it.report().seen == (ME2,)


def test_second_answer_of_the_same_server_says_nothing_of_the_nat() -> None:
    """A mapping varies by whom one talks to."""
    it = measurement((1, 4), (2, 4), delays=(0.0,))
    txid = asked(it)[server(1)]
    answer(it, txid, 0.02)
    with pytest.raises(BadPacket):
        answer(it, txid, 0.03, ME2)
    assert it.report().hard_nat is None


def test_tries_that_would_teach_nothing_are_left_out() -> None:
    """The region's latency is known, and so is what the NAT does."""
    it = measurement((1, 4), (2, 4), (3, 4), (3, 6), delays=(0.05, 0.2), full=False)
    it.handle_timeout(0.05)
    txids = asked(it)
    answer(it, txids[server(3, 6)], 0.06, ME6)
    answer(it, txids[server(1)], 0.06)
    answer(it, txids[server(2)], 0.16)
    assert run(it, 0.2) == {}


@pytest.mark.parametrize(("full", "end"), [(True, 0.42), (False, 0.28)])
def test_three_regions_are_enough(full: bool, end: float) -> None:
    """The others get as long again as the slowest, twice that in a full measurement."""
    it = measurement(*((n, 4) for n in range(1, 6)), full=full)
    txids = asked(it)
    for n in (1, 2, 3):
        answer(it, txids[server(n)], 0.14 if n == 3 else 0.01)
    times = list(run(it))
    assert done(it)
    assert all(at < end for at in times)
    it = measurement(*((n, 4) for n in range(1, 6)), full=full)
    txids = asked(it)
    for n in (1, 2, 3):
        answer(it, txids[server(n)], 0.14 if n == 3 else 0.01)
    run(it, end - 0.001)
    assert not done(it)
    it.handle_timeout(end + 0.001)
    assert done(it)


@pytest.mark.parametrize("full", [True, False])
def test_silent_family_is_not_waited_for_long(full: bool) -> None:
    """Every region answered in one family: a little after the other's last try that is enough."""
    it = measurement((1, 4), (1, 6), full=full)
    answer(it, asked(it)[server(1)], 0.02)
    end = THRICE[-1] + SETTLE
    run(it, end - 0.001)
    assert not done(it)
    it.handle_timeout(end)
    assert done(it)


@pytest.mark.parametrize(("lost", "seen"), [(4, ME), (6, ME6)])
def test_a_family_whose_first_requests_are_lost_is_found(lost: int, seen: AddrPort) -> None:
    """Without it peers are told no address of that family, for as long as half a minute."""
    it = measurement((1, 4), (1, 6))
    works = 10 - lost
    answer(it, asked(it)[server(1, works)], 0.0005, ME if works == 4 else ME6)
    it.handle_timeout(0.1)
    assert set(asked(it)) == {server(1, lost)}
    it.handle_timeout(0.2)
    answer(it, asked(it)[server(1, lost)], 0.2005, seen)
    assert done(it)
    assert set(it.report().seen) == {ME, ME6}


def test_an_old_answer_of_a_silent_family_counts_while_it_is_waited_for() -> None:
    """One that took longer than the time between two tries."""
    it = measurement((1, 4), (1, 6))
    txids = asked(it)
    answer(it, txids[server(1, 6)], 0.01, ME6)
    run(it, 0.25)
    answer(it, txids[server(1)], 0.25)
    assert done(it)
    assert set(it.report().seen) == {ME, ME6}


def test_refused_sends_are_not_waited_for() -> None:
    """A machine without a way to IPv6 knows at once."""
    it = measurement((1, 4), (1, 6))
    txids = asked(it)
    it.send_failed(server(1, 6), 0.0)
    answer(it, txids[server(1)], 0.02)
    assert done(it)
    assert it.report().can_send == {4}


def test_no_answer_is_followed_by_other_questions() -> None:
    """After 3 s; a captive portal is looked for earlier, in full measurements only."""
    it = measurement((1, 4), (2, 4), regions=[1, 2, 3])
    run(it, 0.19)
    assert it.poll_wish() is None
    run(it, 0.2)
    assert it.poll_wish() == CheckPortal()
    run(it, STUN_TIMEOUT)
    assert it.poll_wish() == AskOtherwise([1, 2, 3])
    it.handle_latency(3, 4, 0.2, icmp=False)
    it.handle_latency(3, 4, 0.1, icmp=True)
    it.handle_asked(4.0)
    assert not done(it)
    it.handle_portal(True, 4.1)
    assert done(it)
    report = it.report()
    assert report.latency == {(3, 4): 0.1}
    assert (report.udp, report.icmp, report.portal, report.seen) == (False, True, True, ())

    small = measurement((1, 4), full=False)
    run(small, STUN_TIMEOUT)
    assert small.poll_wish() == AskOtherwise([1])
    assert small.poll_wish() is None


def test_a_relay_that_answers_pings_and_no_https_is_no_home() -> None:
    """Its program is down, or the way to it closed; pings count where nobody answers HTTPS."""
    it = measurement((1, 4), (2, 4))
    run(it)
    it.handle_latency(1, 4, 0.001, icmp=True)
    assert it.report().latency == {(1, 4): 0.001}
    it.handle_latency(2, 4, 0.1, icmp=True)
    it.handle_latency(2, 4, 0.2, icmp=False)
    assert it.report().latency == {(2, 4): 0.1}
    it.handle_latency(1, 6, 0.3, icmp=False)
    assert it.report().by_region() == {1: 0.001, 2: 0.1}
    assert it.report().icmp is True


def test_no_way_at_all_is_known_at_once() -> None:
    """Nothing can be sent: no reason to wait for answers."""
    it = measurement((1, 4))
    asked(it)
    it.send_failed(server(1), 0.0)
    assert it.poll_wish() == AskOtherwise([1])
    assert it.report().can_send == frozenset()


def test_everything_ends_after_five_seconds() -> None:
    """Whoever still works."""
    it = measurement((1, 4))
    run(it)
    assert done(it)
    it.handle_timeout(5.0)
    assert it.report().udp is False


def test_late_answer_counts_while_others_are_asked() -> None:
    """A slow network is not one without UDP."""
    it = measurement((1, 4))
    txid = asked(it)[server(1)]
    run(it, STUN_TIMEOUT)
    answer(it, txid, 3.2)
    it.handle_asked(3.3)
    it.handle_portal(None, 3.3)
    assert done(it)
    assert it.report().udp


def test_nothing_to_ask() -> None:
    """A map without relays: no answer is no finding."""
    it = measurement()
    assert done(it)
    assert not it.report().asked


def test_foreign_answers_are_refused() -> None:
    """Only our own transactions count, and garbage is a bad packet."""
    it = measurement((1, 4))
    for data in (encode_response(b"?" * 12, ME), b"", b"\x01\x01garbage"):
        with pytest.raises(BadPacket):
            it.handle_response_untrusted(data, 0.01)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([4, 6]), st.floats(0, 1)), max_size=12)
)
def test_it_ends_whoever_answers(course: list[tuple[int, int, float]]) -> None:
    """After five seconds at the latest, with one latency for each that answered."""
    it = measurement(*((n, v) for n in range(1, 6) for v in (4, 6)))
    txids = asked(it)
    now, answered = 0.0, set()
    for n, v, delay in course:
        now += delay
        while (at := it.next_timeout()) is not None and at <= now:
            it.handle_timeout(at)
        if it.done or (txid := txids.pop(server(n, v), None)) is None:
            continue
        answer(it, txid, now, ME if v == 4 else ME6)
        answered.add((n, v))
    run(it)
    assert done(it)
    assert set(it.report().latency) == answered
