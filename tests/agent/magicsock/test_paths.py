"""Two hubs on a simulated internet: the way from relay to direct, and back."""

import pytest
from tests.support.magicnet import ONLY, REGION, Host, Net
from tests.support.nats import Nat

from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.interface import Path
from tailnet.agent.keys import RelayAddr
from tailnet.agent.magicsock.peers import PathChanged, PingDone, Policy, SetWake

RELAY = Path(None, relay=True)
PING_DATAGRAM = 124  # bytes


def direct(*hosts: Host) -> bool:
    """All of them use a direct path alone."""
    return all(h.path.udp is not None and not h.path.relay for h in hosts)


REACHABLE = [
    (Nat.NONE, Nat.NONE),
    (Nat.NONE, Nat.INDEPENDENT),
    (Nat.INDEPENDENT, Nat.NONE),
    (Nat.NONE, Nat.DEPENDENT),
    (Nat.DEPENDENT, Nat.NONE),
    (Nat.INDEPENDENT, Nat.INDEPENDENT),
]
UNREACHABLE = [
    (Nat.DEPENDENT, Nat.DEPENDENT),
    (Nat.INDEPENDENT, Nat.DEPENDENT),
    (Nat.BLOCKED, Nat.NONE),
    (Nat.NONE, Nat.BLOCKED),
]


@pytest.mark.parametrize(("a", "b"), REACHABLE)
def test_first_packet_goes_by_relay_and_later_ones_direct(a: Nat, b: Nat) -> None:
    """Nothing waits for path discovery, and discovery succeeds where NATs allow it."""
    net = Net(a, b)
    assert net.a.send_data() == RELAY
    net.a.talk(10, 0.1)
    net.b.talk(10, 0.1)
    assert net.run(4, lambda: direct(net.a, net.b))
    assert net.a.hub.status(ONLY) is not None


@pytest.mark.parametrize(("a", "b"), UNREACHABLE)
def test_relay_carries_everything_where_udp_cannot_meet(a: Nat, b: Nat) -> None:
    """The relay is used for every packet, without ever pausing."""
    net = Net(a, b)
    net.a.talk(120, 0.5)
    net.b.talk(120, 0.5)
    net.run(120)
    assert all(p.relay for p in net.a.sent + net.b.sent)
    status = net.a.hub.status(ONLY)
    assert status is not None
    assert status.cur is None
    assert status.home_region == REGION


@pytest.mark.parametrize("seed", range(8))
def test_direct_despite_loss(seed: int) -> None:
    """A third of all datagrams lost delays the direct path but does not prevent it."""
    net = Net(Nat.INDEPENDENT, Nat.INDEPENDENT, seed=seed, loss=0.3)
    net.a.talk(60, 0.5)
    net.b.talk(60, 0.5)
    assert net.run(60, lambda: direct(net.a, net.b))


def test_cut_path_falls_back_within_the_trust_and_heals() -> None:
    """UDP dies: 6.5 s later at most the relay is in use; UDP returns: so does the direct path."""
    net = Net(Nat.INDEPENDENT, Nat.INDEPENDENT)
    net.a.talk(200, 0.1)
    net.b.talk(200, 0.1)
    assert net.run(5, lambda: direct(net.a, net.b))
    net.run(20)
    net.udp_cut = True
    cut = net.now
    assert net.run(10, lambda: net.a.path.relay and net.b.path.relay)
    assert net.now - cut <= 6.5
    net.run(30)
    assert net.a.path == net.b.path == RELAY
    net.udp_cut = False
    assert net.run(10, lambda: direct(net.a, net.b))


def test_idle_peers_arm_no_timer() -> None:
    """After 45 s without data nothing is armed, and the next data starts again by both ways."""
    net = Net(Nat.NONE, Nat.NONE)
    net.a.send_data()
    assert net.run(2, lambda: direct(net.a))
    net.run(60)
    assert net.a.hub.next_timeout() is None
    assert net.a.hub.active_peers == 0
    assert isinstance(net.a.events[-1], PathChanged | SetWake)
    assert net.a.path == Path(net.b.local, relay=True)
    before = len(net.a.transmitted)
    net.run(1000)
    assert len(net.a.transmitted) == before
    assert net.a.send_data() == Path(net.b.local, relay=True)
    assert net.run(1, lambda: direct(net.a))


def test_good_path_is_not_probed_further() -> None:
    """Below 5 ms only the heartbeat remains, one ping every 3 s."""
    net = Net(Nat.NONE, Nat.NONE)
    net.a.talk(100)
    net.run(3, lambda: direct(net.a))
    machine = net.a.hub._roster.peers[ONLY].machine
    assert machine is not None
    round_at = machine._search._round_at
    for _ in range(90):
        assert machine.best is not None
        machine.chosen.best = machine.best._replace(latency=0.001)
        net.run(1)
    assert machine._search._round_at == round_at


def test_user_ping_tells_the_way() -> None:
    """By relay where nothing else leads, direct where there is a path."""
    net = Net(Nat.BLOCKED, Nat.NONE)
    net.a.hub.ping(ONLY, net.now)
    net.a.pump()
    net.run(1)
    done = [e for e in net.a.events if isinstance(e, PingDone)]
    assert [(e.ticket, e.via) for e in done] == [(1, (REGION, net.b.key))]
    assert done[0].latency == pytest.approx(0.06)

    net = Net(Nat.NONE, Nat.NONE)
    net.a.hub.ping(ONLY, net.now, 1400)
    net.a.pump()
    assert {len(t[1]) for t in net.a.transmitted if t[0] == net.b.local} >= {1400 - 28}
    net.run(1)
    done = [e for e in net.a.events if isinstance(e, PingDone)]
    assert [(e.ticket, e.via) for e in done] == [(1, net.b.local)]


def test_new_network_is_probed_at_once() -> None:
    """A reset voids the path but not what is known of the peer."""
    net = Net(Nat.NONE, Nat.NONE)
    net.a.talk(30, 0.1)
    net.run(2, lambda: direct(net.a))
    net.a.hub.reset(net.now)
    net.a.pump()
    assert net.a.path == RELAY
    assert net.run(1, lambda: direct(net.a))


def allow(host: Host, other: Host, policy: Policy) -> None:
    """What the user of ``host`` allows towards ``other``."""
    host.hub.set_peers({ONLY: other.info()._replace(policy=policy)}, host.net.now)
    host.pump()


def test_relay_only_on_one_side_keeps_both_directions_on_the_relay() -> None:
    """Also when a direct path was there before; and back again, without a restart."""
    net = Net(Nat.NONE, Nat.NONE)
    net.a.talk(200, 0.5)
    net.b.talk(200, 0.5)
    assert net.run(5, lambda: direct(net.a, net.b))
    allow(net.a, net.b, Policy.RELAY_ONLY)
    assert net.a.path == RELAY
    net.run(15)
    assert net.a.path == net.b.path == RELAY
    asked = len(net.a.transmitted)
    net.run(30)
    assert not [t for t in net.a.transmitted[asked:] if isinstance(t[0], AddrPort)]
    allow(net.a, net.b, Policy.AUTO)
    assert net.run(10, lambda: direct(net.a, net.b))


def test_direct_only_never_uses_the_relay_for_data() -> None:
    """Packets wait for nothing: without a path they are dropped; calls still go by relay."""
    net = Net(Nat.INDEPENDENT, Nat.INDEPENDENT)
    allow(net.a, net.b, Policy.DIRECT_ONLY)
    net.a.talk(60, 0.5)
    net.b.talk(60, 0.5)
    assert net.run(5, lambda: direct(net.a, net.b))
    net.udp_cut = True
    net.run(30)
    assert not any(path.relay for path in net.a.sent)
    assert net.a.path == Path(None, relay=False)


def test_ping_follows_the_policy() -> None:
    """By relay only, or never by relay."""
    for policy, kind in ((Policy.RELAY_ONLY, RelayAddr), (Policy.DIRECT_ONLY, AddrPort)):
        net = Net(Nat.NONE, Nat.NONE)
        allow(net.a, net.b, policy)
        net.a.hub.ping(ONLY, net.now)
        net.a.pump()
        net.run(1)
        pings = [dst for dst, data in net.a.transmitted if len(data) == PING_DATAGRAM]
        assert pings
        assert all(isinstance(dst, kind) for dst in pings)
        assert [type(e.via) for e in net.a.events if isinstance(e, PingDone)] == [kind]
