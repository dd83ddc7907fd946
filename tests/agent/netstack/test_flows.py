"""The bounded table of peers' flows."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import IPAddress
from tailnet.agent.netstack.flows import Flows

EVIL, GOOD, THIRD = map(ip_address, ("100.64.0.1", "100.64.0.2", "100.64.0.3"))


def test_a_peer_that_opens_flow_after_flow_pushes_out_its_own() -> None:
    """The idlest of them; others keep theirs."""
    flows: Flows[object, str] = Flows(8)
    flows.add("good", GOOD, "x", 0.0)
    for number in range(100):
        if (victim := flows.victim(EVIL)) is not None:
            assert victim == number - 6
            flows.remove(victim)
        flows.add(number, EVIL, "y", float(number))
    assert len(flows) == 7
    assert flows.use("good", 100.0) == "x"
    assert flows.victim(GOOD) is None
    flows.add("another", GOOD, "x", 100.0)
    assert flows.victim(THIRD) == 94


def test_use_makes_a_flow_the_latest() -> None:
    """And restarts its idle time."""
    flows: Flows[str, int] = Flows(4)
    for number, key in enumerate("abc"):
        flows.add(key, EVIL, number, 0.0)
    assert flows.use("a", 5.0) == 0
    assert flows.use("none", 5.0) is None
    assert flows.victim(EVIL) == "b"
    assert dict(flows.idle(6.0)) == {"a": 1.0, "b": 6.0, "c": 6.0}
    assert flows.remove("b") == 1
    assert flows.remove("b") is None


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from((EVIL, GOOD, THIRD)), st.booleans())))
def test_the_bounds_hold_whatever_comes(steps: list[tuple[int, IPAddress, bool]]) -> None:
    """As many as there is room for; the idlest is first."""
    flows: Flows[int, int] = Flows(12)
    for now, (key, peer, ends) in enumerate(steps):
        if ends:
            flows.remove(key)
        elif flows.use(key, now) is None:
            if (victim := flows.victim(peer)) is not None:
                assert flows.remove(victim) is not None
            flows.add(key, peer, key, now)
        assert len(flows) <= 12
        ages = [age for _, age in flows.idle(now)]
        assert ages == sorted(ages, reverse=True)
