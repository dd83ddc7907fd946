"""The table of states."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.state import Facts, State, next_state

S = State
CONNECTED = Facts(want_running=True, logged_out=False, has_node_key=True, has_netmap=True)
FRESH = Facts(want_running=False, logged_out=True, has_node_key=False, has_netmap=False)


def facts(**changes: Any) -> Facts:  # noqa: ANN401 - any field
    """A connected node with differences."""
    start = {name: getattr(CONNECTED, name) for name in Facts.__slots__}
    return Facts(**{**start, **changes})


@pytest.mark.parametrize(
    ("previous", "now", "want"),
    [
        (S.RUNNING, facts(store_healthy=False), S.NO_STATE),
        (S.RUNNING, facts(want_running=False), S.STOPPED),
        (S.RUNNING, facts(want_running=False, has_netmap=False), S.STOPPED),
        (S.NO_STATE, FRESH, S.NEEDS_LOGIN),
        (S.NO_STATE, facts(has_netmap=False, auth_cannot_continue=True), S.NEEDS_LOGIN),
        (S.STOPPED, facts(has_netmap=False), S.STARTING),
        (S.NO_STATE, facts(has_netmap=False), S.NO_STATE),
        (S.STARTING, facts(has_netmap=False), S.STARTING),
        (S.RUNNING, facts(has_netmap=False), S.RUNNING),
        (S.NEEDS_LOGIN, facts(has_netmap=False), S.NEEDS_LOGIN),
        (S.NEEDS_LOGIN, facts(want_running=False, blocked=True), S.STOPPED),
        (S.RUNNING, facts(key_expired=True), S.NEEDS_LOGIN),
        (S.RUNNING, facts(machine_authorized=False), S.NEEDS_MACHINE_AUTH),
        (S.NEEDS_MACHINE_AUTH, facts(), S.STARTING),
        (S.STARTING, facts(), S.STARTING),
        (S.STARTING, facts(live_peers=1), S.RUNNING),
        (S.STARTING, facts(live_derps=1), S.RUNNING),
        (S.RUNNING, facts(), S.RUNNING),
        (S.NEEDS_LOGIN, facts(live_derps=1), S.STARTING),
    ],
)
def test_first_match_wins(previous: State, now: Facts, want: State) -> None:
    """Every row of the table."""
    assert next_state(previous, now) is want


@given(
    st.sampled_from(State),
    st.builds(
        Facts,
        **dict.fromkeys(set(Facts.__slots__) - {"live_peers", "live_derps"}, st.booleans()),
        live_peers=st.integers(0, 2),
        live_derps=st.integers(0, 2),
    ),
)
def test_state_settles(previous: State, now: Facts) -> None:
    """With facts that do not change, a few steps later nothing changes."""
    state = previous
    for _ in range(3):
        state = next_state(state, now)
    assert next_state(state, now) is state


def test_labels_are_those_of_the_status() -> None:
    """The names shown to people."""
    labels = [state.label for state in State]
    assert labels[2:] == ["NeedsLogin", "NeedsMachineAuth", "Stopped", "Starting", "Running"]
