"""Handles of peers."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.keys import NodePublic


def key(number: int) -> NodePublic:
    """A node key."""
    return NodePublic(bytes([number]) * 32)


@given(st.lists(st.one_of(st.integers(1, 9), st.sets(st.integers(1, 9)))))
def test_a_handle_is_never_used_for_two_keys(steps: list[int | set[int]]) -> None:
    """Whatever is asked for and forgotten."""
    ids, owners = PeerIds(), dict[int, int]()
    for step in steps:
        if isinstance(step, int):
            handle = ids.of(key(step))
            assert 0 < handle < 1 << 31
            assert ids.known(key(step)) == handle
            assert owners.setdefault(handle, step) == step
        else:
            ids.retain({key(number) for number in step})
            assert len(ids) <= len(step)


def test_the_same_key_has_the_same_handle() -> None:
    """While it is remembered."""
    ids = PeerIds()
    assert ids.of(key(1)) == ids.of(key(1)) != ids.of(key(2))
    assert ids.known(key(3)) is None
