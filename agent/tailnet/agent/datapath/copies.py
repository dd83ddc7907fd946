"""Handshake messages that came already.

Whoever knows no path sends a handshake by several ways.  The second copy would be refused in any
case, as a replay, but only after two multiplications on the curve.
"""

from collections import deque

REMEMBERED = 8  # messages; a copy comes within milliseconds of the first


class Copies:
    """The last messages that were accepted.

    Only those: a message that was refused under load may come again with the same bytes, and has
    to be judged again.
    """

    __slots__ = ("_accepted",)

    def __init__(self) -> None:
        self._accepted: deque[bytes] = deque(maxlen=REMEMBERED)

    def note(self, message: bytes) -> None:
        """It was accepted."""
        self._accepted.append(message)

    def __contains__(self, message: bytes) -> bool:
        return message in self._accepted
