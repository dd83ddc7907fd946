"""When all addresses of a peer are asked.

While no direct path is trusted, rounds follow one another ever more slowly, each with a
CallMeMaybe::

    data ─► round ─1 s─► round ─1 s─► round ─2 s─► round ─3 s─► round ─5 s─► round ─5 s─► …
            until a direct path is found, or nobody wants one any longer

While one is trusted but slow, a round a minute looks for a better one.

Source: tailscale wgengine/magicsock/endpoint.go, sendDiscoPingsLocked, wantFullPingLocked.
"""

INTERVALS = (1.0, 1.0, 2.0, 3.0, 5.0)  # seconds between rounds while nothing is trusted
UPGRADE_INTERVAL = 60.0  # seconds between rounds while a direct path works
CALLED_FLOOR = 0.5  # seconds between CallMeMaybes of a peer that we follow at once


class Search:
    """Times of one peer's rounds.

    Attributes:
        at: when the next is due [s]; ``None`` while none is wanted.
    """

    __slots__ = ("_called_at", "_round_at", "_tries", "at")

    def __init__(self) -> None:
        self.at: float | None = None
        self._round_at: float | None = None
        self._tries = 0  # since something was trusted
        self._called_at: float | None = None

    def due(self, now: float) -> bool:
        """Whether it is time."""
        return self.at is not None and now >= self.at

    def begin(self, now: float) -> bool:
        """A round is made because nothing is trusted; false if it is the first."""
        again = self._tries > 0
        self.at = now + INTERVALS[min(self._tries, len(INTERVALS) - 1)]
        self._tries += 1
        return again

    def end(self) -> None:
        """A direct path was found, or none is wanted."""
        self.at = None
        self._tries = 0

    def reset(self) -> None:
        """On another network everything is to be tried again; what is due stays so."""
        self._round_at = None
        self._tries = 0

    def note_round(self, now: float) -> None:
        """All addresses were asked, for whatever reason."""
        self._round_at = now

    def may_upgrade(self, now: float) -> bool:
        """Whether the last round is long enough ago to look for a better path."""
        return self._round_at is None or now - self._round_at >= UPGRADE_INTERVAL

    def follow(self, now: float) -> bool:
        """The peer calls; whether it is followed at once, which an amplifier would be always."""
        if self._called_at is not None and now - self._called_at < CALLED_FLOOR:
            return False
        self._called_at = now
        return True
