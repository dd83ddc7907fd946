"""The backend's state: derived from what is, by one function, and never stored.

Source: tailscale ipn/ipnlocal/local.go, nextStateLocked; ipn/backend.go, State.
"""

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """Numbers and labels are what the LocalAPI shows."""

    NO_STATE = 0
    IN_USE_OTHER_USER = 1
    NEEDS_LOGIN = 2
    NEEDS_MACHINE_AUTH = 3
    STOPPED = 4
    STARTING = 5
    RUNNING = 6

    @property
    def label(self) -> str:
        """``NeedsLogin`` for ``NEEDS_LOGIN``."""
        return "".join(word.capitalize() for word in self.name.split("_"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the state is derived from."""

    want_running: bool
    logged_out: bool
    has_node_key: bool
    has_netmap: bool
    auth_cannot_continue: bool = False
    """The control client can do nothing more until a person acts."""
    blocked: bool = False
    """Engine updates are held back because a login is needed."""
    key_expired: bool = False
    machine_authorized: bool = True
    live_peers: int = 0
    """Peers with a session."""
    live_derps: int = 0
    """Connected relays."""
    store_healthy: bool = True


def next_state(previous: State, facts: Facts) -> State:  # noqa: PLR0911 - it is a table
    """The state now; first match wins."""
    f = facts
    if not f.store_healthy:
        return State.NO_STATE
    if not f.want_running and not f.logged_out and not f.blocked and f.has_node_key:
        return State.STOPPED
    if not f.has_netmap:
        if f.auth_cannot_continue or f.logged_out:
            return State.NEEDS_LOGIN
        return State.STARTING if previous is State.STOPPED else previous
    if not f.want_running:
        return State.STOPPED
    if f.key_expired:
        return State.NEEDS_LOGIN
    if not f.machine_authorized:
        return State.NEEDS_MACHINE_AUTH
    if previous is State.STARTING:
        return State.RUNNING if f.live_peers or f.live_derps else State.STARTING
    return State.RUNNING if previous is State.RUNNING else State.STARTING
