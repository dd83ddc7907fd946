"""When another program keeps writing ``/etc/resolv.conf``, how often we answer; pure.

One that writes once, as a DHCP client does with a new lease, is answered at once, and what it
wrote becomes what we forward to.  Of a program that answers back, nine changes in a row are
repaired; then we wait until it has been quiet for five seconds.

Source: tailscale net/dns/manager.go and feature/linuxdnsfight, limits of trample and recompile.
"""

from dataclasses import dataclass

MOST = 9  # repairs in a row
QUIET = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Fight:
    """How it stands.

    Attributes:
        repairs: in this row.
        last: when the file was last seen changed by another.
    """

    repairs: int = 0
    last: float = float("-inf")

    @property
    def lost(self) -> bool:
        """The user should know: the file is not ours."""
        return self.repairs > MOST

    @property
    def deadline(self) -> float | None:
        """When to look without being told."""
        return self.last + QUIET if self.repairs else None

    def trampled(self, now: float) -> tuple["Fight", bool]:
        """Somebody else's text is there; true if it is to be repaired."""
        before = 0 if now >= self.last + QUIET else self.repairs
        return Fight(min(before + 1, MOST + 1), now), before < MOST

    def at_peace(self, now: float) -> "Fight":
        """The file is as we wrote it."""
        return Fight() if now >= self.last + QUIET else self
