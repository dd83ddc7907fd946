"""Flow state."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.filter.flows import Flow, FlowCache

HOSTS = [bytes((10, 0, 0, i)) for i in range(4)]


def reply(src: bytes, dst: bytes, sport: int, dport: int) -> Flow:
    """The packet that answers a sent one."""
    return Flow(17, dst, src, dport, sport)


def test_a_reply_is_known_and_a_stranger_is_not() -> None:
    """All five parts count."""
    flows = FlowCache()
    flows.note_sent(17, HOSTS[0], HOSTS[1], 5, 53)
    assert flows.is_reply(Flow(17, HOSTS[1], HOSTS[0], 53, 5))
    assert not flows.is_reply(Flow(17, HOSTS[1], HOSTS[0], 53, 6))
    assert not flows.is_reply(Flow(132, HOSTS[1], HOSTS[0], 53, 5))
    assert not flows.is_reply(Flow(17, HOSTS[0], HOSTS[1], 5, 53))


def test_the_513th_flow_costs_the_oldest() -> None:
    """512 are kept, by last use."""
    flows = FlowCache()
    for port in range(512):
        flows.note_sent(17, HOSTS[0], HOSTS[1], port, 53)
    assert flows.is_reply(reply(HOSTS[0], HOSTS[1], 0, 53))  # now the freshest
    flows.note_sent(17, HOSTS[0], HOSTS[1], 600, 53)
    assert len(flows) == 512
    assert flows.is_reply(reply(HOSTS[0], HOSTS[1], 0, 53))
    assert not flows.is_reply(reply(HOSTS[0], HOSTS[1], 1, 53))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=60))
def test_it_is_an_lru_of_its_size(steps: list[tuple[bool, int]]) -> None:
    """Against an ordered dictionary, with room for three."""
    flows = FlowCache(3)
    model: OrderedDict[int, None] = OrderedDict()
    for sent, port in steps:
        if sent:
            flows.note_sent(17, HOSTS[0], HOSTS[1], port, 53)
            model[port] = None
            model.move_to_end(port)
            if len(model) > 3:
                model.popitem(last=False)
        else:
            assert flows.is_reply(reply(HOSTS[0], HOSTS[1], port, 53)) == (port in model)
            if port in model:
                model.move_to_end(port)
