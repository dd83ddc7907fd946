"""Is anybody there?  A PING after a silence, and an end when that stays unanswered.

A server sends a keep-alive at least once a minute into an open map stream, so a healthy connection
is hardly ever asked.

Source: golang.org/x/net/http2, Transport.ReadIdleTimeout and PingTimeout.
"""

from tailnet.agent.errors import RemoteProtocolError

IDLE = 60.0  # seconds without a byte until a PING
ANSWER = 15.0  # seconds for any byte after that
QUICK_ANSWER = 5.0  # seconds, where there is a reason to doubt


class Liveness:
    """Times of one connection."""

    def __init__(self, now: float) -> None:
        self._at = now + IDLE
        self._asked = False

    def heard(self, now: float) -> None:
        """Bytes came, whatever they are."""
        self._at = now + IDLE
        self._asked = False

    def ask(self, now: float) -> None:
        """A PING is sent now: the network changed, and a healthy server answers at once."""
        self._asked = True
        self._at = min(self._at, now + QUICK_ANSWER)

    def next_timeout(self) -> float:
        """When to call :meth:`handle_timeout`."""
        return self._at

    def handle_timeout(self, now: float) -> bool:
        """Whether to send a PING now.

        Raises:
            RemoteProtocolError: the last one was not answered; the connection is dead.
        """
        if now < self._at:
            return False
        if self._asked:
            msg = "the control server does not answer"
            raise RemoteProtocolError(msg)
        self._asked = True
        self._at = now + ANSWER
        return True
