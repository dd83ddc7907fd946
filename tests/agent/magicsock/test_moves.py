"""Two hubs on machines that move: how long data is lost, whatever happens and in whatever order."""

import random

import pytest
from tests.support.movenet import STUN_TAKES, Host, Net
from tests.support.moves import EVERY, MOVES, Move, other_version, watch
from tests.support.nats import Nat

RELAYED = 1.0 + EVERY  # seconds of loss after the last part of a move, where the relay is up
ALONE = 1.5 + EVERY  # the same where the connections to it end with the move, or it is away
OPEN = (Nat.NONE, Nat.FULL_CONE)
IPV4 = [move for move in MOVES if move is not other_version]
KINDS = (*OPEN, Nat.RESTRICTED, Nat.INDEPENDENT, Nat.DEPENDENT)


def met(a: Nat, b: Nat, seed: int, *, v6: bool = False) -> Net:
    """Both talk, by the best path there is."""
    net = Net(a, b, seed=seed, v6=v6)
    net.slow_control = net.rng.choice((0.3, 2.0, 20.0))
    net.stun_takes = net.rng.choice(STUN_TAKES)
    for host in (net.a, net.b):
        host.talk(14, 2 * EVERY)
    net.run(15)
    return net


def who(net: Net) -> list[Host]:
    """One of them, the other, or both."""
    return net.rng.choice(([net.a], [net.b], [net.a, net.b]))


@pytest.mark.parametrize("move", MOVES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("seed", range(2))
def test_no_move_costs_more_than_a_second(move: Move, seed: int) -> None:
    """Where the relay is up; behind whatever translators, one host or both."""
    rng = random.Random(seed)
    for n in range(6):
        a, b, v6 = rng.choice(KINDS), rng.choice(KINDS), rng.random() < 0.5
        net = met(a, b, 100 * seed + n, v6=v6)
        hosts = who(net)
        took = watch(net, move, hosts)
        names = "".join(h.name for h in hosts)
        assert took <= RELAYED, f"{a.name}, {b.name}, {v6=}, {names} moved, {n=}"


@pytest.mark.parametrize("move", MOVES, ids=lambda each: each.__name__)
def test_a_relay_whose_connections_break_with_the_move_changes_little(move: Move) -> None:
    """It accepts new ones at once, but calls of before are lost."""
    rng = random.Random(7)
    for n in range(6):
        a, b = rng.choice(KINDS), rng.choice(KINDS)
        net = met(a, b, n)
        hosts = who(net)
        took = watch(net, move, hosts, cut=0.0)
        assert took <= ALONE, f"{a.name}, {b.name}, {''.join(h.name for h in hosts)}, {n=}"


@pytest.mark.parametrize(
    "move", [m for m in MOVES if m is not other_version], ids=lambda m: m.__name__
)
def test_without_a_relay_an_open_peer_is_found_again(move: Move) -> None:
    """Nobody can call: the one that moved pings, and the other follows."""
    rng = random.Random(8)
    for n in range(6):
        a, b = rng.choice(KINDS), rng.choice(OPEN)
        net = met(a, b, n)
        assert watch(net, move, [net.a], cut=30.0) <= ALONE, f"{a.name}, {b.name}, {n=}"


@pytest.mark.timeout(120)  # some seconds of computing, of which a busy machine makes many
def test_a_day_of_moves() -> None:
    """One after the other, with rests in between."""
    net = met(Nat.INDEPENDENT, Nat.RESTRICTED, 1)
    end = net.now + 24 * 3600
    while net.now < end:
        if net.rng.random() < 0.3:
            net.run(net.rng.uniform(60, 7200))
        move, cut = net.rng.choice(MOVES), net.rng.choice((None, None, 0.0))
        hosts = who(net)
        took = watch(net, move, hosts, cut)
        allowed = RELAYED if cut is None else ALONE
        assert took <= allowed, f"{move.__name__} of {''.join(h.name for h in hosts)} at {net.now}"
