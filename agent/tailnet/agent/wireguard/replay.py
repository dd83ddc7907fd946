"""The replay window of one session.

Source: RFC 6479; wireguard-go replay/replay.go Filter.
"""

from tailnet.agent.wireguard.constants import REJECT_AFTER_MESSAGES

WINDOW = 8128  # counters; replay.go windowSize.  Two paths at once reorder by thousands
_RING = 1024  # bytes of bitmap: 8192 bits, one byte of which is being filled
_MASK = _RING - 1


class ReplayWindow:
    """Which counters were seen, down to ``WINDOW`` below the greatest.

    A ring of bits that slides byte by byte (RFC 6479 §3): moving forward clears whole bytes, so
    nothing is ever shifted.  Ask only after the packet authenticated.
    """

    __slots__ = ("_ring", "_top")

    def __init__(self) -> None:
        self._ring = bytearray(_RING)
        self._top = 0

    def check_and_set(self, counter: int) -> bool:
        """True, once, for a counter that is new and not too old."""
        top = self._top
        ring = self._ring
        block = counter >> 3
        if counter > top:
            if counter >= REJECT_AFTER_MESSAGES:
                return False
            self._top = counter
            ahead = block - (top >> 3)
            if ahead:
                if ahead > 1:
                    self._clear(top >> 3, ahead)
                ring[block & _MASK] = 1 << (counter & 7)
                return True
        elif top - counter > WINDOW:
            return False
        slot = block & _MASK
        bit = 1 << (counter & 7)
        seen = ring[slot]
        if seen & bit:
            return False
        ring[slot] = seen | bit
        return True

    def _clear(self, block: int, ahead: int) -> None:
        """Clear the ``ahead`` - 1 bytes between ``block`` and the new top."""
        if ahead >= _RING:
            self._ring[:] = bytes(_RING)
            return
        start = (block + 1) & _MASK
        end = start + ahead - 1
        if end <= _RING:
            self._ring[start:end] = bytes(end - start)
        else:
            self._ring[start:] = bytes(_RING - start)
            self._ring[: end - _RING] = bytes(end - _RING)
