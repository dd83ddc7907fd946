"""When hooks run, without running them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import UserError
from tailnet.agent.hooks.happenings import KEY_WARNINGS, Happening, Sight, Witness
from tailnet.agent.hooks.runs import BURST, EVERY, MAX_RUNNING, MAX_WAITING, RunQueue
from tailnet.agent.hooks.settings import Hook, Occasion, environment, parse_hooks

UP = Sight("box", "100.64.0.2", online=True)
DOWN = UP._replace(online=False)


def said(happenings: list[Happening]) -> list[str]:
    """Occasions."""
    return [one.occasion.value for one in happenings]


def test_a_file_names_commands_and_webhooks() -> None:
    """Each with its occasion, its patience and its user."""
    tree: Any = {
        "on-running": [{"Command": ["/bin/a", "b"], "Timeout": "500ms", "User": "root"}],
        "on-exit-lost": [{"URL": "https://example.com/x?token=secret"}],
    }
    one, other = parse_hooks(tree)
    assert one == Hook(Occasion.RUNNING, ("/bin/a", "b"), "", 0.5, "root")
    assert (other.url, other.timeout, other.user) == (
        tree["on-exit-lost"][0]["URL"],
        10.0,
        "nobody",
    )
    assert (one.label, other.label) == ("/bin/a", "https://example.com/x")
    assert parse_hooks(None) == ()


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ([], "Expected `object`"),
        ({"on-running": {}}, "Expected `array`"),
        ({"on-sunday": [{"URL": "https://x"}]}, "'on-sunday' never happens; there are on-running"),
        ({"on-running": [{}]}, "give either a Command or a URL"),
        ({"on-running": [{"URL": "https://x", "Command": ["/a"]}]}, "give either"),
        ({"on-running": [{"Command": ["a"]}]}, "needs its whole path, not 'a'"),
        ({"on-running": [{"Command": ["/a", "\0"]}]}, "zero byte"),
        ({"on-running": [{"URL": "ftp://x"}]}, "http:// or https://"),
        ({"on-running": [{"URL": "https://x", "Timeout": "1h"}]}, "a Timeout is like"),
        ({"on-running": [{"URL": "https://x", "Timeout": "301s"}]}, "at most 5m"),
        ({"on-running": [{"URL": "https://x", "Shell": True}]}, "unknown field `Shell`"),
        ({"on-running": [{"URL": "https://x"}] * 65}, "more than 64"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tree: object, says: str) -> None:
    """About the first thing."""
    with pytest.raises(UserError, match=r"^Hooks: ") as caught:
        parse_hooks(tree)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


KEYS = st.sampled_from([*Occasion, "Command", "URL", "Timeout", "x"])
TREES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@given(TREES)
def test_any_tree_is_hooks_or_a_user_error(tree: Any) -> None:  # noqa: ANN401 - that is the point
    """Nothing else is raised."""
    try:
        assert isinstance(parse_hooks(tree), tuple)
    except UserError:
        return


def test_running_and_stopped_are_told_when_they_change() -> None:
    """A start in which nothing runs yet is no news."""
    witness = Witness()
    assert witness.state(False, "", "") == []
    (up,) = witness.state(True, "me", "100.64.0.1")
    assert up == Happening(Occasion.RUNNING, {"name": "me", "address": "100.64.0.1"})
    assert witness.state(True, "me", "100.64.0.1") == []
    assert said(witness.state(False, "me", "100.64.0.1")) == ["on-stopped"]


def test_peers_are_told_when_they_come_and_go() -> None:
    """Not those of the first map; gone is down."""
    witness = Witness()
    assert witness.peers({2: UP, 3: DOWN}, everything=True) == []
    assert said(witness.peers({3: UP._replace(name="c")}, everything=False)) == ["on-peer-up"]
    assert witness.peers({3: UP}, everything=False) == []
    (down,) = witness.peers({2: DOWN}, everything=False)
    assert down == Happening(Occasion.PEER_DOWN, {"peer": "box", "address": "100.64.0.2"})
    assert said(witness.peers({2: None, 3: None}, everything=False)) == ["on-peer-down"]
    assert said(witness.peers({4: UP, 5: UP}, everything=True)) == ["on-peer-up", "on-peer-up"]
    assert said(witness.peers({5: UP}, everything=True)) == ["on-peer-down"]


def test_peers_after_a_pause_are_no_news() -> None:
    """The machine was off, not they."""
    witness = Witness()
    witness.state(True, "me", "")
    witness.peers({2: UP}, everything=True)
    witness.state(False, "me", "")
    assert witness.peers({2: UP, 3: UP}, everything=True) == []


def test_paths_are_told_when_they_change() -> None:
    """With the one before; not of strangers."""
    witness = Witness()
    witness.peers({2: UP}, everything=True)
    assert witness.path(2, "relay nyc") == []
    (change,) = witness.path(2, "direct 192.0.2.1:4")
    assert change.about["before"] == "relay nyc"
    assert change.about["path"] == "direct 192.0.2.1:4"
    assert witness.path(2, "direct 192.0.2.1:4") == []
    assert witness.path(9, "relay nyc") == witness.path(9, "direct") == []


def test_a_key_is_told_once_for_each_warning() -> None:
    """And again for the next key."""
    witness = Witness()
    week, day, hour = KEY_WARNINGS
    assert witness.key(week + 1) == []
    assert said(witness.key(week)) == ["on-key-expiring"]
    assert witness.key(week - 1) == []
    assert said(witness.key(day)) == ["on-key-expiring"]
    assert witness.key(hour)[0].about == {"seconds": "3600"}
    assert witness.key(-5.0) == []
    assert witness.key(None) == witness.key(10 * week) == []
    assert said(witness.key(1.0)) == ["on-key-expiring"]


def test_an_exit_node_is_told_when_it_is_lost() -> None:
    """Not when it comes back."""
    witness = Witness()
    assert witness.exit_node(False, "") == []
    assert witness.exit_node(True, "far")[0].about == {"exit_node": "far"}
    assert witness.exit_node(True, "far") == witness.exit_node(False, "far") == []
    assert said(witness.exit_node(True, "far")) == ["on-exit-lost"]


def test_a_hook_is_rated_and_others_are_not_held_up() -> None:
    """Too many runs of one are left out, and counted."""
    noisy, quiet = Hook(Occasion.PATH_CHANGE, ("/a",)), Hook(Occasion.RUNNING, ("/b",))
    queue = RunQueue((noisy, quiet))
    change = Happening(Occasion.PATH_CHANGE, {})
    assert [queue.happened(change, 100.0) for _ in range(BURST + 2)] == [0] * BURST + [1, 1]
    assert queue.happened(Happening(Occasion.RUNNING, {}), 100.0) == 0
    assert queue.happened(change, 100.0 + EVERY) == 0
    assert queue.dropped == 2


def test_few_run_at_a_time_and_few_wait() -> None:
    """In the order of what happened."""
    hooks = tuple(Hook(Occasion.RUNNING, (f"/{n}",)) for n in range(MAX_WAITING + 3))
    queue = RunQueue(hooks)
    assert queue.happened(Happening(Occasion.RUNNING, {}), 0.0) == 3
    started = [queue.poll() for _ in range(MAX_RUNNING)]
    assert [run and run.hook.command for run in started] == [(f"/{n}",) for n in range(MAX_RUNNING)]
    assert queue.poll() is None
    queue.ended()
    assert queue.poll() is not None


def test_a_command_finds_its_details_and_nothing_of_ours() -> None:
    """No variable of the daemon's own."""
    found = environment(Occasion.PEER_UP, {"peer": "box"})
    assert found["TAILNET_EVENT"] == "on-peer-up"
    assert found["TAILNET_PEER"] == "box"
    assert set(found) == {"PATH", "LANG", "TAILNET_EVENT", "TAILNET_PEER"}
