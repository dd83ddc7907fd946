"""Whether a peer is silent that should have answered, so that its path is to be tested.

A translator that starts anew tells nobody: what both sides send is lost, and no address looks
different.  But traffic seldom goes one way only.  While data leaves, the datapath is asked how long
the peer has not been heard since::

      heard     data leaves          silent: test the path       verdict
        ├──────────┼───────────────────────┼───────────────────────┤
                   0                      0.6 s, or 2 round trips  0.3 s later

One silence is one test.  A stream in one direction only, whose receiver says something every 10 s,
costs a ping or two for that; an idle peer costs nothing.
"""

PATIENCE = 0.6  # seconds without a word after data left
ROUND_TRIPS = 2  # or as many, where they take longer
STREAMING = 3.0  # seconds after the last data in which the datapath is asked


class Silence:
    """Of one peer.

    Attributes:
        at: when to ask the datapath next [s]; ``None`` while little is sent.
    """

    __slots__ = ("_tested", "at")

    def __init__(self) -> None:
        self.at: float | None = None
        self._tested: float | None = None  # the silence that was

    def listen(self, now: float) -> None:
        """Data leaves."""
        if self.at is None:
            self.at = now + PATIENCE

    def rest(self) -> None:
        """There is no path, or nobody who uses it."""
        self.at = None

    def goes_on(self, unheard_since: float | None) -> bool:
        """The silence that was last tested has not ended."""
        return unheard_since is not None and unheard_since == self._tested

    def handle_timeout(
        self, now: float, last_data_sent: float, unheard_since: float | None, latency: float
    ) -> bool:
        """Look if it is time; whether to test the path.

        Args:
            now: seconds.
            last_data_sent: when [s].
            unheard_since: when the first data left that nothing followed from the peer [s].
            latency: of the path [s].
        """
        if self.at is None or now < self.at:
            return False
        if now - last_data_sent > STREAMING:
            self.at = None
            return False
        patience = max(PATIENCE, ROUND_TRIPS * latency)
        if unheard_since is None or self.goes_on(unheard_since):
            self.at = now + patience
            return False
        if now < unheard_since + patience:
            self.at = unheard_since + patience
            return False
        self.at, self._tested = now + patience, unheard_since
        return True
