"""Races in virtual time; the servers are played by the test."""

import random
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from dnslib import EDNS0, RR, DNSRecord, EDNSOption
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.dns.message import (
    NOERROR,
    REFUSED,
    SERVFAIL,
    TC,
    Query,
    parse_question_untrusted,
)
from tailnet.agent.dns.race import TIMEOUT, TRUTH, Ask, Race, Way
from tailnet.agent.dns.upstream import Https, Plain, Upstream

A_SERVER, ANOTHER = (
    Plain(AddrPort(ip_address("192.0.2.1"), 53)),
    Plain(AddrPort(ip_address("192.0.2.2"), 53)),
)
HTTPS = Https("https://dns.example/q", ())


def race(*servers: Upstream, tcp: bool = False, seed: int = 1) -> Race:
    """Begun at time 0 for ``example.com``."""
    data = bytes(DNSRecord.question("example.com", "A").pack())
    query = Query(parse_question_untrusted(data), data, tcp)
    return Race(query, servers, random_bytes=random.Random(seed).randbytes, now=0.0)


def taken(begun: Race) -> list[tuple[int, Way]]:
    """What is to be sent, without the bytes."""
    asks = [(ask.upstream, ask.way) for ask in begun.asks]
    begun.asks.clear()
    return asks


def answer(asked: bytes, rcode: int = NOERROR, *, flags: int = 0) -> bytes:
    """A server's answer to what it was asked."""
    parsed = DNSRecord.parse(asked).reply()
    if rcode == NOERROR:
        parsed.add_answer(*RR.fromZone("example.com 60 A 203.0.113.7"))
    parsed.header.rcode = rcode
    data = bytearray(parsed.pack())
    data[2:4] = (int.from_bytes(data[2:4]) | flags).to_bytes(2)
    question = len(asked) - 12
    data[12 : 12 + question] = asked[12:]  # dnslib keeps the case, be sure
    return bytes(data)


def run_to(begun: Race, now: float) -> None:
    """Let every deadline until ``now`` pass."""
    while (due := begun.deadline()) is not None and due <= now:
        begun.handle_timeout(due)


ONE = (Upstream(A_SERVER, 0.0),)
TWO = (Upstream(A_SERVER, 0.0), Upstream(ANOTHER, 0.0))


def test_the_first_good_answer_is_the_clients_in_its_own_words() -> None:
    """Its id, and its case of letters."""
    begun = race(*TWO)
    first, second = begun.asks
    begun.handle_answer(1, Way.UDP, answer(second.data), 0.01)
    assert begun.result is not None
    assert begun.winner == 1
    parsed = DNSRecord.parse(begun.result)
    assert str(parsed.q.qname) == "example.com."
    assert str(parsed.a.rdata) == "203.0.113.7"
    assert begun.deadline() is None
    before = begun.result
    begun.handle_answer(0, Way.UDP, answer(first.data), 0.02)
    assert begun.result is before


def test_every_server_gets_an_id_and_a_case_of_its_own() -> None:
    """Nothing of what one server sees helps to answer for another."""
    first, second = race(*TWO).asks
    assert first.data != second.data
    assert first.data[12:].lower() == second.data[12:].lower()


@pytest.mark.parametrize(
    ("wanted", "asked"), [(512, 512), (1232, 1232), (4095, 4095), (65535, 4095)]
)
def test_a_server_is_promised_no_more_than_we_take(wanted: int, asked: int) -> None:
    """Whatever the client takes; its own words otherwise, options included."""
    record = DNSRecord.question("example.com", "A")
    record.add_ar(EDNS0(udp_len=wanted, flags="do", opts=[EDNSOption(10, b"12345678")]))
    data = bytes(record.pack())
    query = Query(parse_question_untrusted(data), data, tcp=False)
    begun = Race(query, ONE, random_bytes=random.Random(1).randbytes, now=0.0)
    (ask,) = begun.asks
    (opt,) = DNSRecord.parse(ask.data).ar
    assert opt.edns_len == asked
    assert opt.edns_do == 1
    assert [bytes(option.data) for option in opt.rdata] == [b"12345678"]
    assert len(ask.data) == len(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: bytes((data[0] ^ 1,)) + data[1:],
        lambda data: data[:2] + bytes((data[2] & 0x7F,)) + data[3:],
        lambda data: data[:13] + b"q" + data[14:],
        lambda data: data[:20],
        lambda data: b"",
    ],
    ids=["another id", "a query", "another question", "cut", "empty"],
)
def test_an_answer_to_something_else_is_not_heard(spoil: Callable[[bytes], bytes]) -> None:
    """And the true one still counts."""
    begun = race(*ONE)
    (ask,) = begun.asks
    begun.handle_answer(0, Way.UDP, spoil(answer(ask.data)), 0.01)
    assert begun.result is None
    begun.handle_answer(0, Way.UDP, answer(ask.data), 0.02)
    assert begun.result is not None


def test_a_server_that_changes_the_case_is_asked_by_tcp() -> None:
    """Its answer may be true, and may be a guess."""
    begun = race(*ONE)
    (ask,) = begun.asks
    begun.asks.clear()
    data = answer(ask.data)
    flipped = data[:12] + data[12:25].swapcase() + data[25:]
    begun.handle_answer(0, Way.UDP, flipped, 0.01)
    assert begun.result is None
    assert taken(begun) == [(0, Way.TCP)]


def test_the_truth_after_a_forgery_in_the_wrong_case_is_heard() -> None:
    """A forger cannot silence a server that answers by UDP alone."""
    begun = race(*ONE)
    (ask,) = begun.asks
    begun.asks.clear()
    data = answer(ask.data)
    begun.handle_answer(0, Way.UDP, data[:12] + data[12:25].swapcase() + data[25:], 0.01)
    begun.handle_failure(0, Way.TCP, 0.02)
    assert begun.result is None
    begun.handle_answer(0, Way.UDP, data, 0.05)
    assert begun.winner == 0
    begun = race(*ONE)
    (ask,) = begun.asks
    data = answer(ask.data)
    begun.handle_answer(0, Way.UDP, data[:12] + data[12:25].swapcase() + data[25:], 0.01)
    begun.handle_failure(0, Way.TCP, 0.02)
    run_to(begun, 0.01 + TRUTH)
    assert begun.result is not None
    assert DNSRecord.parse(begun.result).header.rcode == SERVFAIL


def test_silence_by_udp_brings_tcp_after_two_seconds() -> None:
    """UDP is still heard meanwhile."""
    begun = race(*ONE)
    (ask,) = begun.asks
    begun.asks.clear()
    run_to(begun, 1.99)
    assert taken(begun) == []
    run_to(begun, 2.0)
    assert taken(begun) == [(0, Way.TCP)]
    begun.handle_answer(0, Way.UDP, answer(ask.data), 2.5)
    assert begun.result is not None


def test_an_error_by_udp_brings_tcp_at_once() -> None:
    """Nobody listens there, or the network refuses."""
    begun = race(*ONE)
    begun.asks.clear()
    begun.handle_failure(0, Way.UDP, 0.1)
    assert taken(begun) == [(0, Way.TCP)]
    begun.handle_failure(0, Way.TCP, 0.2)
    assert begun.result is not None
    assert DNSRecord.parse(begun.result).header.rcode == SERVFAIL


def test_a_truncated_answer_is_good_for_a_client_by_udp() -> None:
    """It will ask again by TCP itself."""
    begun = race(*ONE)
    (ask,) = begun.asks
    begun.handle_answer(0, Way.UDP, answer(ask.data, flags=TC), 0.01)
    assert begun.result is not None


def test_a_truncated_answer_is_a_last_resort_for_a_client_by_tcp() -> None:
    """Both ways are asked at once; the whole answer wins."""
    begun = race(*ONE, tcp=True)
    udp, tcp = begun.asks
    assert (udp.way, tcp.way) == (Way.UDP, Way.TCP)
    begun.handle_answer(0, Way.UDP, answer(udp.data, flags=TC), 0.01)
    assert begun.deadline() is not None
    begun.handle_failure(0, Way.TCP, 0.2)
    assert begun.deadline() is None
    assert begun.result is not None
    assert int.from_bytes(begun.result[2:4]) & TC


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [
        ((REFUSED, REFUSED), REFUSED),
        ((REFUSED, SERVFAIL), SERVFAIL),
        ((SERVFAIL, NOERROR), NOERROR),
        ((REFUSED, NOERROR), NOERROR),
    ],
)
def test_no_from_one_server_leaves_room_for_another(codes: tuple[int, int], outcome: int) -> None:
    """In either order."""
    for order in ((0, 1), (1, 0)):
        begun = race(*TWO)
        asks = list(begun.asks)
        for n in order:
            begun.handle_answer(n, Way.UDP, answer(asks[n].data, codes[n]), 0.01)
        assert begun.result is not None
        assert DNSRecord.parse(begun.result).header.rcode == outcome


def test_a_later_server_waits_for_its_turn_and_is_spared_if_it_can_be() -> None:
    """HTTPS has half a second."""
    begun = race(Upstream(HTTPS, 0.0), Upstream(A_SERVER, 0.5))
    (ask,) = begun.asks
    assert taken(begun) == [(0, Way.HTTPS)]
    run_to(begun, 0.5)
    assert taken(begun) == [(1, Way.UDP)]
    begun.handle_answer(0, Way.HTTPS, answer(ask.data), 0.6)
    assert begun.winner == 0


def test_after_ten_seconds_of_silence_nothing_is_said() -> None:
    """The client's own retry is better than a guess."""
    begun = race(*TWO)
    run_to(begun, TIMEOUT)
    assert begun.gave_up
    assert begun.result is None
    assert begun.deadline() is None


def test_a_refusal_is_passed_on_when_the_others_stay_silent() -> None:
    """Better than nothing."""
    begun = race(*TWO)
    begun.handle_answer(0, Way.UDP, answer(begun.asks[0].data, REFUSED), 0.01)
    run_to(begun, TIMEOUT)
    assert begun.result is not None


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "soft", "truncated", "noise", "failure", "time"]),
        st.integers(0, 2),
        st.sampled_from(list(Way)),
        st.floats(0.0, 3.0),
    ),
    max_size=25,
)


@given(EVENTS, st.booleans(), st.binary(max_size=80))
def test_every_race_ends_in_time_with_an_answer_to_the_question(
    events: list[tuple[str, int, Way, float]], tcp: bool, noise: bytes
) -> None:
    """Whatever servers do, in whatever order; each is asked at most once each way."""
    begun = race(*TWO, Upstream(HTTPS, 0.5), tcp=tcp)
    sent: list[Ask] = []
    now = 0.0
    for kind, upstream, way, later in events:
        sent += begun.asks
        begun.asks.clear()
        mine = next((a.data for a in sent if (a.upstream, a.way) == (upstream, way)), b"\0" * 29)
        match kind:
            case "answer":
                begun.handle_answer(upstream, way, answer(mine) if mine[12:13] else mine, now)
            case "soft":
                begun.handle_answer(upstream, way, answer(mine, SERVFAIL) if mine[12] else b"", now)
            case "truncated":
                begun.handle_answer(upstream, way, answer(mine, flags=TC) if mine[12] else b"", now)
            case "noise":
                begun.handle_answer(upstream, way, noise, now)
            case "failure":
                begun.handle_failure(upstream, way, now)
            case _:
                now += later
                run_to(begun, now)
    run_to(begun, TIMEOUT)
    sent += begun.asks
    assert begun.gave_up or begun.result is not None
    assert len({(a.upstream, a.way) for a in sent}) == len(sent)
    if begun.result is not None:
        assert str(DNSRecord.parse(begun.result).q.qname) == "example.com."
