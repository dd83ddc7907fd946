"""Paths through peer relays: found, preferred to DERP, given up for direct ones."""

import pytest
from tests.support.netem import Link
from tests.support.relaynet import RelayNet

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.keys import PeerId


def via(net: RelayNet) -> bool:
    """Both clients trust a way through a relay."""
    return net.connected() and all(isinstance(n.route.udp, ViaAddr) for n in (net.a, net.b))


def direct(net: RelayNet) -> bool:
    """Both clients trust the direct way."""
    return net.connected() and all(isinstance(n.route.udp, AddrPort) for n in (net.a, net.b))


def both_talk(net: RelayNet, seconds: float) -> None:
    """Data both ways."""
    net.a.talk(seconds)
    net.b.talk(seconds)


def test_where_no_direct_way_is_a_relay_is_used_within_two_seconds() -> None:
    """And DERP no longer."""
    net = RelayNet()
    both_talk(net, 20)
    assert net.run(2.0, lambda: via(net))
    net.run(5.0)
    assert via(net)
    assert net.a.got["via"] > net.now - 1
    assert net.a.got["derp"] < net.now - 3
    (session,) = net.relays[0].server.sessions()
    assert None not in session.bound
    assert min(session.packets) > 3


def test_one_side_that_talks_is_enough() -> None:
    """The other one binds because it is asked to."""
    net = RelayNet()
    net.a.talk(20)
    assert net.run(3.0, lambda: isinstance(net.a.route.udp, ViaAddr) and not net.a.route.relay)


def test_where_a_direct_way_is_no_relay_is_asked() -> None:
    """It answers within the second that is waited."""
    net = RelayNet()
    net.direct = True
    both_talk(net, 20)
    assert net.run(5.0, lambda: direct(net))
    net.run(15.0)
    assert not net.relays[0].server.sessions()


def test_a_direct_way_that_opens_later_is_taken() -> None:
    """The search goes on while a relay is used."""
    net = RelayNet()
    both_talk(net, 60)
    assert net.run(3.0, lambda: via(net))
    net.run(10.0)
    net.direct = True
    assert net.run(6.0, lambda: direct(net))
    net.run(20.0)
    assert direct(net)


def test_a_relay_that_dies_gives_way_to_derp_and_one_that_returns_is_used_again() -> None:
    """A restarted one has another key, which control tells."""
    net = RelayNet()
    both_talk(net, 120)
    assert net.run(3.0, lambda: via(net))
    relay = net.relays[0]
    relay.up = False
    assert net.run(10.0, lambda: net.a.route.relay and net.b.route.relay)
    net.run(10.0)
    assert net.a.route == net.b.route
    assert net.a.route.udp is None
    relay.restart()
    net.meet()
    assert net.run(35.0, lambda: via(net))


def test_of_two_relays_the_other_one_takes_over() -> None:
    """Soon after the first one's silence is noticed."""
    net = RelayNet(relays=2)
    both_talk(net, 60)
    assert net.run(3.0, lambda: via(net))
    net.run(5.0)
    used = net.a.route.udp
    assert isinstance(used, ViaAddr)
    for relay in net.relays:
        relay.up = relay.relay_addr != used.relay
    assert net.run(20.0, lambda: via(net) and net.a.route.udp != used)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "link",
    [
        Link(latency=0.05, loss=0.2),
        Link(latency=0.15, spread=0.3, duplication=0.2),
        Link(latency=0.02, loss=0.1, spread=0.1, duplication=0.1),
    ],
    ids=["loss", "reorder", "all"],
)
def test_on_a_bad_network_a_relay_is_found_too(link: Link, seed: int) -> None:
    """Lost binds, answers and pings go again; what comes late or twice does no harm."""
    net = RelayNet(relays=3, seed=seed, link=link)
    both_talk(net, 90)
    assert net.run(60.0, lambda: via(net))
    vias = {s.vni for r in net.relays for s in r.server.sessions()}
    assert len(vias) <= 3


def test_a_quiet_pair_asks_nobody() -> None:
    """After 45 s without data there is no timer left."""
    net = RelayNet()
    both_talk(net, 5)
    net.run(120.0)
    asked = len(net.a.sent)
    net.run(600.0)
    assert len(net.a.sent) == asked
    assert net.a.hub.next_timeout() is None


def test_a_working_relay_is_looked_for_again_once_a_minute() -> None:
    """One request for each relay, and no handshake for the session that is in use."""
    net = RelayNet()
    both_talk(net, 400)
    net.run(10.0)
    binds = sum(1 for dst, _ in net.a.sent if dst == net.relays[0].relay_addr)
    net.run(300.0)
    assert via(net)
    assert sum(1 for dst, _ in net.a.sent if dst == net.relays[0].relay_addr) == binds
    assert len(net.relays[0].server.sessions()) == 1


def test_a_users_ping_says_that_it_went_through_a_relay() -> None:
    """With the session."""
    net = RelayNet()
    both_talk(net, 20)
    assert net.run(3.0, lambda: via(net))
    ticket = net.a.hub.ping(PeerId(2), net.now)
    net.a.pump()
    assert net.run(1.0, lambda: bool(net.a.pongs))
    (pong,) = net.a.pongs
    assert (pong.ticket, pong.via) == (ticket, net.a.route.udp)


def test_two_clients_of_which_one_is_the_relay_meet_there() -> None:
    """It gives itself a session."""
    net = RelayNet(relays=0)
    net = RelayNet(relays=1)
    relay = net.relays[0]
    net.a.hub.set_allocate(relay.server.allocate)  # as if the relay ran on this host
    net.nodes[2].hub.set_allocate(None)
    both_talk(net, 20)
    assert net.run(3.0, lambda: via(net))


def test_nothing_is_asked_when_relays_are_off() -> None:
    """Control may say so."""
    net = RelayNet()
    net.a.hub.set_relaying(enabled=False)
    both_talk(net, 30)
    net.run(20.0)
    assert not net.a.route.udp
    assert net.a.route.relay
