"""Two hubs behind every pair of translators reach what theory allows; and keep it, for days."""

from collections.abc import Callable
from itertools import combinations_with_replacement

import pytest
from tests.support.magicnet import ONLY, Host, Net
from tests.support.nats import Nat, can_meet
from tests.support.netem import Link

DISCOVERY = 15.0  # seconds in which a way that exists is used, whatever happened before
PAIRS = list(combinations_with_replacement(Nat, 2))


def direct(*hosts: Host) -> bool:
    """All of them use a direct path alone."""
    return all(h.path.udp is not None and not h.path.relay for h in hosts)


def talk(net: Net, seconds: float, every: float = 0.5) -> None:
    """Both ways."""
    net.a.talk(seconds, every)
    net.b.talk(seconds, every)


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda nat: nat.name)
def test_every_pair_reaches_what_theory_allows(a: Nat, b: Nat) -> None:
    """Whoever begins; where it does not allow it, the relay carries every packet."""
    for first, second in ((a, b), (b, a)):
        net = Net(first, second)
        talk(net, 60)
        met = net.run(1.0, lambda n=net: direct(n.a, n.b))  # type: ignore[misc]
        assert met == can_meet(first, second)
        if not met:
            net.run(59)
            assert all(p.relay for p in net.a.sent + net.b.sent)


def test_one_carrier_for_both() -> None:
    """They meet only if it lets its customers talk to its outer address."""
    for hairpin in (True, False):
        net = Net(Nat.INDEPENDENT, Nat.INDEPENDENT, hairpin=hairpin)
        talk(net, 30)
        assert net.run(3.0, lambda n=net: direct(n.a, n.b)) == hairpin  # type: ignore[misc]


def test_ipv6_on_both_sides_needs_no_hole_and_on_one_side_changes_nothing() -> None:
    """Whatever IPv4 does."""
    for v6, meets in (("ab", True), ("a", False), ("b", False)):
        net = Net(Nat.DEPENDENT, Nat.DEPENDENT, v6=v6)
        talk(net, 30)
        assert net.run(3.0, lambda n=net: direct(n.a, n.b)) == meets  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(6))
def test_bad_links_delay_the_direct_path_but_do_not_prevent_it(seed: int) -> None:
    """Loss, delay, reordering and duplicates together."""
    bad = Link(latency=0.15, spread=0.2, loss=0.25, duplication=0.1)
    net = Net(Nat.INDEPENDENT, Nat.RESTRICTED, seed=seed, link=bad)
    talk(net, 60)
    assert net.run(30, lambda: direct(net.a, net.b))


@pytest.mark.parametrize(("loss", "most"), [(0.01, 0.2), (0.05, 1.0), (0.2, 8.0)])
def test_a_lossy_path_is_not_left_all_the_time(loss: float, most: float) -> None:
    """Changes of the path a minute, at 300 ms delay each way, over an hour."""
    link = Link(latency=0.3, spread=0.05, loss=loss)
    net = Net(Nat.INDEPENDENT, Nat.INDEPENDENT, seed=3, link=link)
    talk(net, 3700, 5.0)
    net.run(100)
    before = switches(net.a)
    net.run(3600)
    assert (switches(net.a) - before) / 60 <= most


def switches(host: Host) -> int:
    """Changes of its path so far."""
    status = host.hub.status(ONLY)
    assert status is not None
    return status.switches


@pytest.mark.timeout(120)  # some seconds of computing, of which a busy machine makes many
@pytest.mark.parametrize("seed", range(3))
def test_a_day_of_churn_leaves_nobody_silent(seed: int) -> None:
    """Whenever some way exists for longer than discovery takes, data arrives.

    Hosts roam, translators forget, UDP and the relay come and go; between bursts all rest.  A way
    exists while the relay is there, and a direct one that was in use outlives the relay.
    """
    other = (Nat.RESTRICTED, Nat.DEPENDENT, Nat.INDEPENDENT)[seed]
    net = Net(Nat.INDEPENDENT, other, seed=seed)
    faults: list[Callable[[], None]] = [
        net.a.roam,
        net.b.roam,
        net.forget,
        lambda: setattr(net, "udp_cut", not net.udp_cut),
        lambda: setattr(net, "relay_up", not net.relay_up),
    ]
    end = net.now + 24 * 3600
    met = False  # by a direct path, which nothing has touched since
    alone = 0  # times that it had to do without the relay
    while net.now < end:
        if net.rng.random() < 0.1:
            net.run(net.rng.uniform(60, 7200))
            met = False
        fault = net.rng.choice(faults)
        fault()
        met = met and fault is faults[-1]
        for host in (net.a, net.b):
            host.pump()
        if not net.relay_up and (net.udp_cut or net.rng.random() < 0.5):
            net.relay_up = True
        talk(net, 60, 2.0)
        net.run(DISCOVERY)
        heard = net.now
        net.run(40)
        if net.relay_up or met:
            assert min(net.a.got, net.b.got) > heard, f"silent at {net.now}"
        alone += met and not net.relay_up
        met = direct(net.a, net.b)
    assert bool(alone) == can_meet(Nat.INDEPENDENT, other)


def test_ten_thousand_at_rest_cost_nothing() -> None:
    """No timer, no event, no datagram, no path machine."""
    net = Net(Nat.NONE, Nat.NONE)
    hub, info = net.a.hub, net.b.info()
    peers = {
        type(ONLY)(n): info._replace(
            node_key=type(info.node_key)(n.to_bytes(32, "big")),
            disco_key=type(info.disco_key)(n.to_bytes(32, "big")),
        )
        for n in range(1, 10_001)
    }
    hub.set_peers(peers, net.now)
    while hub.poll_event() is not None:
        pass
    assert hub.next_timeout() is None
    hub.set_peers(peers, net.now)
    assert (hub.poll_event(), hub.poll_transmit(), hub.active_peers) == (None, None, 0)
    assert all(peer.machine is None for peer in hub._roster.peers.values())
