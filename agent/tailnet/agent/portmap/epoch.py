"""Whether a gateway restarted, by the clock in its answers.

Source: RFC 6886 section 3.6; RFC 6887 section 8.5 allows less, and distrusts fast clocks too.
"""

SLACK = 2.0  # seconds that an answer may be under way longer than the one before


class Epoch:
    """The clock of one gateway in one protocol."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None

    def restarted(self, epoch: int, now: float) -> bool:
        """Take ``epoch`` [s], heard at ``now`` [s]; true if the clock did not just go on.

        A clock may be an eighth slower than ours, and any faster.
        """
        before, self._last = self._last, (epoch, now)
        if before is None:
            return False
        theirs, ours = epoch - before[0], now - before[1]
        return theirs < -1 or theirs + SLACK < ours * 7 / 8
