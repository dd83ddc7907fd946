"""What the control client tells the rest of the daemon."""

from dataclasses import dataclass

from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.trouble import Cause
from tailnet.agent.keys import NodePrivate
from tailnet.agent.tailcfg.node import NodeID, UserID


@dataclass(frozen=True, slots=True)
class Registered:
    """The server accepts ``node_key``; store it, and ``old_node_key`` with it."""

    node_key: NodePrivate
    old_node_key: NodePrivate | None
    """What ``node_key`` replaced, sent with every later registration."""
    user_id: UserID
    login_name: str
    display_name: str
    machine_authorized: bool
    """False: an administrator has yet to approve this device; not an error."""


@dataclass(frozen=True, slots=True)
class AuthURL:
    """A person must open ``url`` to finish the login."""

    url: str


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The server refused, or is no control server."""

    message: str
    """One line, the server's words where it has any."""
    retry_in: float | None
    """Seconds until the next attempt; ``None``: the auth key is refused, the client has ended."""
    final: bool = False
    """The server understood and says no."""
    pending: bool = False
    """A person has been asked to open a URL, which stays good."""
    cause: Cause = Cause.OTHER


@dataclass(frozen=True, slots=True)
class Connected:
    """The map stream delivered its first message."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The map stream ended; the last network map stays valid."""

    reason: str
    retry_in: float
    """Seconds until the next attempt."""
    cause: Cause = Cause.OTHER


@dataclass(frozen=True, slots=True)
class NetmapChanged:
    """A new network map.

    When ``full`` is false only the peers in ``changed`` and ``removed``, and possibly the parts
    that are not peers, differ from the previous map.
    """

    netmap: NetworkMap
    full: bool
    changed: frozenset[NodeID]
    removed: frozenset[NodeID]


@dataclass(frozen=True, slots=True)
class PopBrowser:
    """The server asks to open ``url`` for the user; the login goes on without."""

    url: str


ControlEvent = (
    Registered | AuthURL | LoginFailed | Connected | Disconnected | NetmapChanged | PopBrowser
)
