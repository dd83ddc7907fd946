"""What a ``Node`` tells whoever watches it."""

from dataclasses import dataclass

from tailnet.agent.backend.health import HealthWarning
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.state import State
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.node import NodeID
from tailnet.platform.interface import NetworkEvent


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The derived state is another one."""

    state: State


@dataclass(frozen=True, slots=True)
class PrefsChanged:
    """The user's wishes changed."""

    prefs: Prefs


@dataclass(frozen=True, slots=True)
class NetworkMapChanged:
    """A new network map is in use.

    ``changed``: peers that were added, changed or removed since the one before; ``None``: any.
    """

    netmap: NetworkMap
    changed: frozenset[NodeID] | None = None


@dataclass(frozen=True, slots=True)
class ProfileChanged:
    """Another account is in use; nothing of the one before holds any more.

    ``removed``: ids of profiles that are gone for good.
    """

    profile_id: str
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LoginFinished:
    """The server accepted this node."""


@dataclass(frozen=True, slots=True)
class BrowseToURL:
    """A person must open ``url`` to finish the login."""

    url: str


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """The server's words, or why it could not be reached."""

    message: str


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """Warnings to show; none when all is well."""

    warnings: tuple[HealthWarning, ...]


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """The host's network is another one; the first says how it was at the start."""

    event: NetworkEvent


NodeEvent = (
    StateChanged
    | PrefsChanged
    | NetworkMapChanged
    | ProfileChanged
    | LoginFinished
    | BrowseToURL
    | LoginRefused
    | HealthChanged
    | NetworkChanged
)
