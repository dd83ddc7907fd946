"""Which warnings show: those that have held for their delay, while none shows that they depend on.

Without a network nobody wants to read that the relay is out of reach as well.
"""

from dataclasses import dataclass
from datetime import datetime

from tailnet.agent.backend.ailments import HealthFacts, conditions
from tailnet.agent.backend.warnables import Warnable


@dataclass(frozen=True, slots=True)
class HealthWarning:
    """A warning that shows."""

    what: Warnable
    text: str
    since: datetime


class Health:
    """Remembers since when each warning holds, and says which ones show."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, datetime]] = {}
        self._holding: dict[Warnable, str] = {}
        self._timeout: float | None = None
        self.shown: tuple[HealthWarning, ...] = ()

    def handle_facts(self, facts: HealthFacts, now: float, wall: datetime) -> bool:
        """Bring :attr:`shown` up to date; whether that changed it."""
        holding = conditions(facts)
        if holding != self._holding or (self._timeout is not None and now >= self._timeout):
            codes = {what.code for what in holding}
            self._since = {code: at for code, at in self._since.items() if code in codes}
            for code in codes:
                self._since.setdefault(code, (now, wall))
            self._holding = holding
            return self._show(now)
        return False

    def next_timeout(self) -> float | None:
        """When a warning will have held for long enough, unless facts change."""
        return self._timeout

    def _show(self, now: float) -> bool:
        due = {w: self._since[w.code][0] + w.delay for w in self._holding}
        ripe = {what.code for what, at in due.items() if at <= now}
        self._timeout = min((at for at in due.values() if at > now), default=None)
        shown = tuple(
            HealthWarning(what, text, self._since[what.code][1])
            for what, text in self._holding.items()
            if what.code in ripe and ripe.isdisjoint(what.depends_on)
        )
        changed = shown != self.shown
        self.shown = shown
        return changed
