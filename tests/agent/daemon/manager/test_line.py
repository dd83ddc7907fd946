"""The line in the list of services."""

import pytest

from tailnet.agent.backend.state import State
from tailnet.agent.daemon.manager.line import line
from tailnet.agent.tailcfg.node import Node, NodeID

NODE = Node(
    id=NodeID(1),
    name="box.example.ts.net.",
    addresses=("100.64.0.1/32", "fd7a:115c:a1e0::1/128"),
)


@pytest.mark.parametrize(
    ("state", "url", "text"),
    [
        (State.NO_STATE, "", "Starting"),
        (State.NEEDS_LOGIN, "", "Needs login: tnet up"),
        (State.NEEDS_LOGIN, "https://a/b", "Needs login: https://a/b"),
        (State.STOPPED, "", "Stopped; tnet up connects"),
        (State.RUNNING, "", "Connected; box.example.ts.net; 100.64.0.1; fd7a:115c:a1e0::1"),
    ],
)
def test_it_says_what_to_do_or_who_this_is(state: State, url: str, text: str) -> None:
    """In the words of the commands."""
    assert line(state, NODE, url) == text


def test_without_a_map_it_is_starting() -> None:
    """Running needs one."""
    assert line(State.RUNNING, None, "") == "Starting"
