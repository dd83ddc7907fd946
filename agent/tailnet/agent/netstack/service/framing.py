"""DNS over TCP: each message has its length in front (RFC 1035 §4.2.2)."""

from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.service.interface import MAX_TCP_QUERY

LARGEST = 0xFFFF


class Framer:
    """Messages out of a stream."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """More of the stream; the messages that are whole now.

        Raises:
            BadPacket: a length that no query has.
        """
        self._data += data
        whole = []
        while len(self._data) >= 2:
            size = int.from_bytes(self._data[:2], "big")
            if not 0 < size <= MAX_TCP_QUERY:
                msg = "a query of impossible length"
                raise BadPacket(msg)
            if len(self._data) < 2 + size:
                break
            whole.append(bytes(self._data[2 : 2 + size]))
            del self._data[: 2 + size]
        return whole


def frame(message: bytes) -> bytes:
    """One message for the stream; at most ``LARGEST`` bytes."""
    return len(message).to_bytes(2, "big") + message
