"""What people are told of a path."""

from tests.support.magicnet import ONLY, Net
from tests.support.nats import Nat

from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.interface import Path
from tailnet.agent.magicsock.peers import MAX_SWITCHES, Policy
from tailnet.agent.magicsock.report import PathReport

NOWHERE = AddrPort.parse("198.51.100.1:1")


def about(net: Net) -> PathReport:
    """What a knows of b."""
    found = net.a.hub.report(ONLY)
    assert found is not None
    return found


def known(net: Net, *more: AddrPort, policy: Policy = Policy.AUTO) -> None:
    """Control's word on b."""
    info = net.b.info()._replace(policy=policy)
    net.a.hub.set_peers({ONLY: info._replace(endpoints=(*info.endpoints, *more))}, net.now)
    net.a.pump()


def test_a_peer_at_rest_was_not_asked() -> None:
    """The relay leads to it, and its addresses are only hearsay."""
    found = about(Net(Nat.NONE, Nat.NONE))
    assert (found.path, found.region, found.switches) == (Path(None, relay=True), 1, 1)
    assert [c.verdict for c in found.candidates] == ["it was not asked: nothing was sent yet"]
    assert [s.why for s in found.history] == ["the relay leads to it"]


def test_winner_and_losers_and_every_change_have_their_reason() -> None:
    """In the rule's words, the one in use first."""
    net = Net(Nat.NONE, Nat.NONE)
    known(net, NOWHERE)
    net.a.talk(60, 0.5)
    net.run(20)
    found = about(net)
    assert found.candidates[0].addr == net.b.local
    assert found.candidates[0].used
    assert found.candidates[0].verdict == "won: it answered a ping while no path was trusted"
    assert found.candidates[0].sources == ("control", "heard from it")
    assert all(0.01 < p.latency < 0.03 for p in found.candidates[0].pongs)
    assert (found.candidates[1].addr, found.candidates[1].verdict) == (NOWHERE, "no answer")
    net.udp_cut = True
    net.run(20)
    found = about(net)
    assert [s.why for s in found.history] == [
        "the relay leads to it",
        "it answered a ping while no path was trusted",
        "no pong for 6.5 s",
        "a ping was not answered within 5 s",
    ]
    assert [c.used for c in found.candidates] == [False, False]
    assert found.candidates[0].verdict == "no answer to the last ping"


def test_history_is_bounded_and_the_count_is_not() -> None:
    """A path that flaps for hours leaves the latest changes."""
    net = Net(Nat.NONE, Nat.NONE)
    net.a.talk(1000, 0.5)
    for _ in range(20):
        net.udp_cut = not net.udp_cut
        net.run(30)
    found = about(net)
    assert len(found.history) == MAX_SWITCHES
    assert found.switches > MAX_SWITCHES
    status = net.a.hub.status(ONLY)
    assert status is not None
    assert status.switches == found.switches


def test_policy_is_named() -> None:
    """As the reason why nothing else was tried."""
    net = Net(Nat.NONE, Nat.NONE)
    known(net, policy=Policy.RELAY_ONLY)
    net.a.talk(5)
    net.run(5)
    found = about(net)
    assert found.policy is Policy.RELAY_ONLY
    assert {c.verdict for c in found.candidates} == {"it was not asked: the policy is relay-only"}
