"""From how things are to what has happened: only changes count, and not the first sight.

::

    state, peers, paths, key, exit node ──► Witness ──► Happening, Happening, …
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tailnet.agent.hooks.settings import Occasion

KEY_WARNINGS = (7 * 86_400.0, 86_400.0, 3_600.0)  # seconds before a key expires, each told once


class Happening(NamedTuple):
    """What hooks are told; the details are those of :data:`occasion`, all of them text."""

    occasion: Occasion
    about: Mapping[str, str]


class Sight(NamedTuple):
    """A peer as it is now.  ``online`` ``None``: control does not say."""

    name: str
    address: str
    online: bool | None


class Witness:
    """Remembers what it saw of one node."""

    def __init__(self) -> None:
        self._running = False
        self._online: dict[int, Sight] = {}
        self._met = False  # the peers of this map
        self._paths: dict[int, str] = {}
        self._told = 0  # warnings about the key
        self._exit_lost = False

    def state(self, running: bool, name: str, address: str) -> list[Happening]:
        """The node takes part in the tailnet, or not."""
        if running is self._running:
            return []
        self._running = running
        occasion = Occasion.RUNNING if running else Occasion.STOPPED
        if not running:
            self._forget()
        return [Happening(occasion, {"name": name, "address": address})]

    def peers(self, seen: Mapping[int, Sight | None], *, everything: bool) -> list[Happening]:
        """These peers are so now; ``None`` is gone; ``everything``: and there are no others.

        Of the first map nothing is told: who is there was not news.
        """
        out: list[Happening] = []
        gone = [number for number in self._online if number not in seen] if everything else []
        for number, sight in (*seen.items(), *((number, None) for number in gone)):
            out += self._peer(number, sight)
        first, self._met = not self._met, True
        return [] if first else out

    def _peer(self, number: int, sight: Sight | None) -> Iterable[Happening]:
        before = self._online.pop(number, None)
        if sight is not None:
            self._online[number] = sight
        else:
            self._paths.pop(number, None)
        was, now = bool(before and before.online), bool(sight and sight.online)
        about = sight or before
        if was is now or about is None:
            return []
        occasion = Occasion.PEER_UP if now else Occasion.PEER_DOWN
        return [Happening(occasion, {"peer": about.name, "address": about.address})]

    def path(self, number: int, path: str) -> list[Happening]:
        """A peer is reached so now; the first path is not news."""
        before, sight = self._paths.get(number, ""), self._online.get(number)
        self._paths[number] = path
        if not before or before == path or sight is None:
            return []
        about = {"peer": sight.name, "address": sight.address, "path": path, "before": before}
        return [Happening(Occasion.PATH_CHANGE, about)]

    def key(self, left: float | None) -> list[Happening]:
        """Seconds until the node's key expires; ``None``: it never does."""
        due = 0 if left is None else sum(left <= limit for limit in KEY_WARNINGS)
        before, self._told = self._told, due
        if left is None or due <= before:
            return []
        return [Happening(Occasion.KEY_EXPIRING, {"seconds": str(max(0, int(left)))})]

    def exit_node(self, lost: bool, wanted: str) -> list[Happening]:
        """The exit node that is wanted is there, or not."""
        before, self._exit_lost = self._exit_lost, lost
        return [Happening(Occasion.EXIT_LOST, {"exit_node": wanted})] if lost > before else []

    def _forget(self) -> None:
        self._online.clear()
        self._paths.clear()
        self._met = False
