"""How long the host was away: suspended, or as a virtual machine stopped from outside.

Suspend shows in the kernel's own clocks: one counts through it and one does not, and setting the
time moves neither.  A machine that its host stopped knows nothing; only the calendar, once somebody
corrects it, is ahead of the clock by which it thought to live.

Source: tailscale net/netmon/netmon.go, pollWallTime.
"""

LEAST = 5.0  # seconds; less is measuring noise, and nothing forgets us so quickly
LEAST_STOPPED = 22.5  # seconds; corrections below are what every clock needs


class Sleep:
    """Two looks at the clocks, and what happened in between."""

    def __init__(self, boot: float, awake: float, calendar: float) -> None:
        self._suspended = boot - awake
        self._set = calendar - boot

    def handle(self, boot: float, awake: float, calendar: float) -> float:
        """Seconds that the host was away since the last look; 0 if it was not.

        Args:
            boot: since the boot, suspend included.
            awake: since the boot, without it.
            calendar: since 1970.
        """
        suspended, stopped = boot - awake - self._suspended, calendar - boot - self._set
        self._set = calendar - boot
        if suspended >= LEAST:
            self._suspended = boot - awake
            return suspended
        return stopped if stopped >= LEAST_STOPPED else 0.0
