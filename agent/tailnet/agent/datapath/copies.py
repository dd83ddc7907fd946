"""Handshake messages that came already.

Whoever knows no path sends a handshake by several ways.  The second copy would be refused in any
case, as a replay, but only after two multiplications on the curve.
"""

from collections import OrderedDict

# Messages.  A copy comes by a relay up to some 100 ms after the first, and where a node begins
# anew the handshakes of all its peers come in between.
REMEMBERED = 256


class Copies:
    """The last messages that were accepted.

    Only those: a message that was refused under load may come again with the same bytes, and has
    to be judged again.
    """

    __slots__ = ("_accepted",)

    def __init__(self) -> None:
        self._accepted: OrderedDict[bytes, None] = OrderedDict()

    def note(self, message: bytes) -> None:
        """It was accepted."""
        self._accepted[message] = None
        if len(self._accepted) > REMEMBERED:
            self._accepted.popitem(last=False)

    def __contains__(self, message: bytes) -> bool:
        return message in self._accepted
