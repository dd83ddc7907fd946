"""The mapper and a gateway, in virtual time."""

from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.gateway import GATEWAY, NETWORK, OUTSIDE, OWN, PORT, House

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap import natpmp, pcp
from tailnet.agent.portmap.actions import SendUdp
from tailnet.agent.portmap.igd import Post
from tailnet.agent.portmap.interface import Network, PortmapSupport, Protocol
from tailnet.agent.portmap.lease import LIFETIME
from tailnet.agent.portmap.mapper import (
    ALL,
    FIRST_PAUSE,
    LAST_PAUSE,
    PROBE_PAUSE,
    PROBE_TIME,
)
from tailnet.agent.portmap.upnp import SERVICES

EACH = pytest.mark.parametrize("protocol", list(Protocol), ids=lambda p: p.name)
SERVER = AddrPort(GATEWAY, natpmp.PORT)


def only(protocol: Protocol) -> House:
    """A gateway that speaks one protocol, and the mapper begun."""
    house = House(frozenset({protocol}))
    house.begin()
    return house


@EACH
def test_each_protocol_makes_a_mapping_within_a_second(protocol: Protocol) -> None:
    """The gateway has it, and support says what it speaks."""
    house = only(protocol)
    house.run(1)
    assert house.works
    mapping = house.mapper.mapping
    assert mapping is not None
    assert mapping.by is protocol
    support = house.mapper.support
    assert support == PortmapSupport(*(p is protocol for p in (Protocol.UPNP, *list(Protocol)[:2])))


@EACH
@pytest.mark.parametrize("late", [0.01, 0.5, 5.0])
def test_a_gateway_slower_than_the_probe_is_asked_when_it_answers(
    protocol: Protocol, late: float
) -> None:
    """Not only when the pause is over; UPnP lets routers wait, and some are busy."""
    house = House(frozenset({protocol}))
    house.delay = PROBE_TIME + late
    house.begin()
    house.run(house.delay - 0.001)
    assert not house.mapper.busy
    house.delay = 0.01
    house.run(1)
    assert house.works
    support = house.mapper.support
    assert support == PortmapSupport(*(p is protocol for p in (Protocol.UPNP, *list(Protocol)[:2])))


def test_a_second_protocol_that_answers_late_is_asked_if_the_first_refuses() -> None:
    """UPnP, while NAT-PMP is being asked in vain."""
    house = only(Protocol.PMP)
    house.run(PROBE_TIME - 0.005)
    house.gateway.speaks = frozenset({Protocol.UPNP})
    house.run(0.01)
    house.mapper.handle_datagram_untrusted(*house.says(Protocol.UPNP), house.now)
    house.run(3)
    assert house.works
    assert house.mapper.mapping is not None
    assert house.mapper.mapping.by is Protocol.UPNP


def test_a_gateway_that_refuses_is_not_asked_again_however_often_it_answers() -> None:
    """Each protocol once after a probe."""
    house = House(frozenset())
    house.begin()
    house.run(2 * PROBE_TIME)
    for _ in range(100):
        house.mapper.handle_datagram_untrusted(*house.says(Protocol.PMP), house.now)
        house.run(0.05)
    assert sum(note.startswith("asking") for note in house.notes) == 1


def test_nat_pmp_is_asked_first_and_nobody_else_then() -> None:
    """Where all are spoken."""
    house = House()
    house.begin()
    house.run(5)
    assert house.works
    assert house.mapper.mapping is not None
    assert house.mapper.mapping.by is Protocol.PMP
    assert "pcp map" not in house.gateway.heard
    assert "description" not in house.gateway.heard


@EACH
def test_a_lease_is_renewed_at_its_half_and_keeps_its_port(protocol: Protocol) -> None:
    """For a day, without a gap."""
    house = only(protocol)
    house.run(1)
    first = house.mapper.portmap.external
    for _ in range(24 * 60):
        house.run(60)
        assert house.works
    assert house.mapper.portmap.external == first
    asked = sum(what in {"pmp map", "pcp map", "AddPortMapping"} for what in house.gateway.heard)
    assert asked <= (24 * 2 + 1 if protocol is not Protocol.UPNP else 24 * 3 + 1)


@EACH
def test_what_is_renewed_in_vain_ends_with_its_lease(protocol: Protocol) -> None:
    """And is there again when the gateway is."""
    house = only(protocol)
    house.run(1)
    house.gateway.speaks = frozenset()
    house.run(LIFETIME - 10)
    assert house.works
    house.run(20)
    assert house.mapper.portmap.external is None
    house.gateway.speaks = frozenset({protocol})
    house.run(LAST_PAUSE + 1)
    assert house.works


@EACH
def test_what_is_released_is_gone_at_the_gateway(protocol: Protocol) -> None:
    """Nothing is asked afterwards."""
    house = only(protocol)
    house.run(1)
    house.mapper.release()
    house.drain()
    assert not house.gateway.mappings
    assert house.mapper.portmap.external is None
    heard = len(house.gateway.heard)
    house.run(10_000)
    assert len(house.gateway.heard) == heard


@EACH
def test_another_port_gives_the_first_one_back(protocol: Protocol) -> None:
    """One mapping at a time."""
    house = only(protocol)
    house.run(1)
    house.mapper.set_port(PORT + 1, house.now)
    house.run(1)
    assert [inside for inside, _, _ in house.gateway.mappings.values()] == [PORT + 1]


@pytest.mark.parametrize("protocol", [Protocol.PMP, Protocol.PCP], ids=lambda p: p.name)
def test_a_restart_is_noticed_by_the_clock_and_mapped_again(protocol: Protocol) -> None:
    """At the next probe, whoever asked for it."""
    house = only(protocol)
    house.run(600)
    house.gateway.restart(house.now)
    house.mapper.probe(house.now)
    house.run(2 * PROBE_PAUSE)
    assert house.works
    assert "the gateway restarted" in house.notes


@EACH
def test_an_announcement_or_a_changed_link_makes_sure(protocol: Protocol) -> None:
    """A gateway that restarted has the mapping again within seconds."""
    for announced in (True, False):
        house = only(protocol)
        house.run(600)
        house.gateway.restart(house.now)
        if announced:
            house.mapper.handle_announcement_untrusted(
                SERVER, bytes.fromhex("0080 0000 00000000 0b630001"), house.now
            )
        else:
            house.mapper.set_network(NETWORK, house.now)
        house.run(1)
        assert house.works


def test_a_mapping_that_was_lost_and_is_refused_is_told_no_more() -> None:
    """Peers would send into nothing for hours."""
    house = only(Protocol.PMP)
    house.run(600)
    house.gateway.restart(house.now)
    house.gateway.speaks = frozenset()
    house.mapper.set_network(NETWORK, house.now)
    house.run(5)
    assert house.mapper.portmap.external is None


def test_a_flood_of_announcements_is_a_question_in_five_seconds() -> None:
    """Anybody can send them."""
    house = only(Protocol.PMP)
    house.run(600)
    before = house.gateway.heard.count("pmp map")
    for epoch in range(1000):
        data = bytes.fromhex("0080 0000") + epoch.to_bytes(4, "big") + OUTSIDE.packed
        house.mapper.handle_announcement_untrusted(SERVER, data, house.now)
        house.run(0.1)
    assert house.gateway.heard.count("pmp map") - before <= 100 / PROBE_PAUSE + 2


def test_a_clock_that_runs_backwards_is_a_question_in_five_seconds() -> None:
    """A gateway that is broken, or hostile."""
    house = only(Protocol.PMP)
    house.run(1)
    before = house.gateway.heard.count("pmp map")
    for step in range(600):
        data = bytes.fromhex("0080 0000") + (600 - step).to_bytes(4, "big") + OUTSIDE.packed
        house.mapper.handle_datagram_untrusted(SERVER, data, house.now)
        house.run(0.1)
    assert house.gateway.heard.count("pmp map") - before <= 60 / PROBE_PAUSE + 2


def test_another_network_forgets_and_begins_anew() -> None:
    """No network, a public gateway: nothing is asked."""
    house = only(Protocol.PMP)
    house.run(1)
    for network in (None, Network(IPv4Address("9.9.9.9"), IPv4Address("9.9.9.8"))):
        house.mapper.set_network(network, house.now)
        assert house.mapper.portmap.external is None
        assert house.mapper.support == PortmapSupport()
        heard = len(house.gateway.heard)
        house.run(1000)
        assert len(house.gateway.heard) == heard
    house.mapper.set_network(NETWORK, house.now)
    house.run(1)
    assert house.works


def test_pcp_and_upnp_follow_where_nat_pmp_fails() -> None:
    """In this order."""
    house = House()
    house.gateway.outside = IPv4Address(0)  # a gateway without an address of its own
    house.begin()
    house.run(10)
    order = [w for w in house.gateway.heard if w in {"pmp map", "pcp map", "description"}]
    assert list(dict.fromkeys(order)) == ["pmp map", "pcp map", "description"]
    assert house.mapper.portmap.external is None


def test_a_silent_network_is_asked_ever_more_rarely() -> None:
    """A handful of datagrams, in the end every ten minutes."""
    house = House(frozenset())
    house.begin()
    house.run(86_400)
    assert house.gateway.heard.count("search") / 4 <= 86_400 / LAST_PAUSE + 7
    assert house.mapper.support == PortmapSupport(upnp=False, pmp=False, pcp=False)
    house.gateway.speaks = ALL
    house.mapper.probe(house.now)
    house.run(1)
    assert house.works


def test_without_a_port_the_gateway_is_probed_and_not_asked() -> None:
    """For who only wants to know."""
    house = House()
    house.mapper.set_network(NETWORK, house.now)
    house.run(100)
    assert house.gateway.heard == []
    house.mapper.probe(house.now)
    house.run(100)
    assert house.mapper.support == PortmapSupport(upnp=True, pmp=True, pcp=True)
    assert not house.gateway.mappings
    house.mapper.set_port(PORT, house.now)
    house.run(1)
    assert house.works


def test_requests_are_repeated() -> None:
    """A datagram that gets lost costs a fraction of a second."""
    house = only(Protocol.PCP)
    house.run(0.26)
    house.lost = lambda: True
    house.run(0.4)
    house.lost = lambda: False
    house.run(0.5)
    assert house.works


@pytest.mark.parametrize("switched_off", [[p] for p in Protocol] + [list(Protocol)])
def test_protocols_that_are_switched_off_are_not_spoken(switched_off: list[Protocol]) -> None:
    """And nobody says what the gateway could do."""
    house = House(protocols=ALL - set(switched_off))
    house.begin()
    house.run(2)
    words = {Protocol.PMP: "pmp", Protocol.PCP: "pcp", Protocol.UPNP: "search"}
    for protocol in switched_off:
        assert not any(what.startswith(words[protocol]) for what in house.gateway.heard)
    assert house.mapper.support.upnp is (None if Protocol.UPNP in switched_off else True)
    assert house.works is (len(switched_off) == 1)


@pytest.mark.parametrize("error", [725, 402])
def test_routers_without_lease_times_get_a_mapping_for_ever(error: int) -> None:
    """It is made sure of all the same, and removed at the end."""
    house = House(frozenset({Protocol.UPNP}))
    house.gateway.error = error
    house.begin()
    house.run(1)
    assert house.works
    house.run(10_000)
    assert house.works
    house.mapper.release()
    house.drain()
    assert not house.gateway.mappings


def test_a_taken_port_is_replaced_by_another_by_upnp() -> None:
    """By us with version 1, by the gateway with version 2."""
    for kind in (SERVICES[1], SERVICES[0]):
        house = House(frozenset({Protocol.UPNP}))
        house.gateway.services = (kind,)
        house.gateway.taken = {1024 + 2, 1024 + 3}  # what the test's randomness wishes first
        house.begin()
        house.run(2)
        assert house.works


def test_a_gateway_that_answers_no_calls_is_given_up_in_time() -> None:
    """Five seconds; then there is a pause."""
    house = House(frozenset({Protocol.UPNP}))
    house.gateway.silent_calls = {"AddPortMapping"}
    house.begin()
    house.run(5.5)
    assert not house.mapper.busy
    assert house.notes[-1] == "no mapping by UPnP: no answer"
    house.run(FIRST_PAUSE)
    assert house.mapper.busy


def test_only_the_gateway_is_heard() -> None:
    """Whoever else sends what it would."""
    house = only(Protocol.PMP)
    house.drain()
    data = bytes.fromhex("0080 0000 00000005 0b630001")
    for src in (AddrPort.parse("192.168.7.3:5351"), AddrPort.parse("11.99.0.1:1900")):
        for handle in (
            house.mapper.handle_datagram_untrusted,
            house.mapper.handle_announcement_untrusted,
        ):
            with pytest.raises(BadPacket, match="gateway"):
                handle(src, data, house.now)
    assert house.mapper.support.pmp is None


def test_another_ones_pcp_answer_does_not_count() -> None:
    """The nonce is what makes it ours."""
    house = only(Protocol.PCP)
    house.run(0.255)
    nonce = bytes(12)
    forged = pcp.map_request(OWN, nonce, PORT, 99, LIFETIME)
    forged = b"\2\x81\0\0" + forged[4:44] + bytes(10) + b"\xff\xff" + OUTSIDE.packed
    house.mapper.handle_datagram_untrusted(SERVER, forged, house.now)
    assert house.mapper.portmap.external is None
    house.run(1)
    assert house.works


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.3]), st.sampled_from(list(Protocol)))
def test_a_mapping_survives_loss(seed: int, rate: float, protocol: Protocol) -> None:
    """An attempt fails by chance, and the next comes at most ten minutes later."""
    chance = Random(seed)
    house = House(frozenset({protocol}))
    house.lost = lambda: chance.random() < rate
    house.begin()
    for _ in range(10):
        house.run(2000)
        if house.mapper.portmap.external is not None:
            return
    raise AssertionError(house.mapper.portmap)


JUNK = st.one_of(
    st.binary(max_size=70),
    st.binary(max_size=60).map(lambda b: b"\2\x81\0\0" + b),
    st.binary(max_size=12).map(lambda b: b"\0\x80\0\0" + b),
    st.binary(max_size=12).map(lambda b: b"\0\x81\0\0" + b),
)
STEP = st.one_of(
    st.tuples(st.just("datagram"), JUNK),
    st.tuples(st.just("announcement"), JUNK),
    st.tuples(st.just("http"), st.binary(max_size=200)),
    st.tuples(st.just("wait"), st.floats(0, 4000).map(lambda f: str(f).encode())),
    st.tuples(st.just("probe"), st.just(b"")),
    st.tuples(st.just("network"), st.sampled_from([b"", b"same", b"other"])),
)


@settings(deadline=None)
@given(st.lists(STEP, max_size=30))
def test_no_course_of_events_confuses_it(steps: list[tuple[str, bytes]]) -> None:
    """Only BadPacket leaves, work is bounded, and a good gateway maps in the end."""
    house = House()
    mapper = house.mapper
    house.begin()
    other = Network(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
    ticket = 0
    for what, data in steps:
        sent = 0
        try:
            match what:
                case "datagram":
                    mapper.handle_datagram_untrusted(SERVER, data, house.now)
                case "announcement":
                    mapper.handle_announcement_untrusted(SERVER, data, house.now)
                case "http":
                    ticket += 1
                    url = f"http://{GATEWAY}:5000/"
                    mapper.handle_http_untrusted(ticket, url, 200, data, house.now)
                case "wait":
                    house.run(float(data))
                case "probe":
                    mapper.probe(house.now)
                case _:
                    mapper.set_network({b"same": NETWORK, b"other": other}.get(data), house.now)
        except BadPacket:
            pass
        while (action := mapper.poll_action()) is not None:
            sent += isinstance(action, SendUdp | Post)
        assert sent < 20
    house.mapper.release()
    house.mapper.set_port(0, house.now)
    house.mapper.set_network(None, house.now)
    house.begin()
    house.run(2)
    assert house.works


def test_a_protocol_that_is_forbidden_gives_its_mapping_back() -> None:
    """It is asked for again by the others, and by it when it is allowed again."""
    house = only(Protocol.UPNP)
    house.run(1)
    assert house.works
    house.mapper.set_protocols(ALL - {Protocol.UPNP}, house.now)
    house.run(5)
    assert house.mapper.mapping is None
    assert not house.gateway.mappings
    assert house.mapper.support == PortmapSupport(None, pmp=False, pcp=False)
    house.mapper.set_protocols(ALL, house.now)
    house.run(5)
    assert house.works


def test_forbidding_another_protocol_costs_no_mapping() -> None:
    """NAT-PMP's stays while UPnP goes."""
    house = House()
    house.begin()
    house.run(1)
    mapping = house.mapper.mapping
    house.mapper.set_protocols(ALL - {Protocol.UPNP}, house.now)
    house.run(5)
    assert house.mapper.mapping == mapping
