"""GOAWAY, taken out of the byte stream before ``h2`` sees it.

``h2`` ends a connection at a GOAWAY, together with the requests under way; the standard lets those
finish, and a server that is being replaced relies on that.

::

    u24 length   u8 type = 7   u8 flags   u32 stream = 0   u32 last stream   u32 error   debug data

Source: RFC 9113 sections 4.1 and 6.8.
"""

from dataclasses import dataclass

from tailnet.agent.errors import BadPacket

HEAD_LEN = 9
GOAWAY = 7
GOAWAY_LEN = 8  # bytes without debug data
MAX_GOAWAY = 16 << 10  # bytes with it
STREAM_MASK = 0x7FFF_FFFF


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The other end begins to leave: it has dealt or will deal with streams up to ``last``."""

    last: int
    error: int


class Goodbyes:
    """Finds the GOAWAY frames of one direction.

    Args:
        skip: bytes before the first frame: the preface that a client sends.
    """

    def __init__(self, skip: int) -> None:
        self._pass = skip  # bytes of a frame that are still to come, and belong to h2
        self._held = bytearray()  # a frame head, or a GOAWAY, that is incomplete

    def split_untrusted(self, data: bytes) -> tuple[bytes, list[Goodbye]]:
        """What is for ``h2``, and what was taken out, of the next bytes in chunks of any size.

        Raises:
            BadPacket: a GOAWAY that is none.
        """
        if not self._held and len(data) <= self._pass:
            self._pass -= len(data)
            return data, []
        self._held += data
        out, found, at = [], [], 0
        while at < len(self._held):
            if self._pass:
                end = min(at + self._pass, len(self._held))
                out.append(bytes(self._held[at:end]))
                self._pass -= end - at
                at = end
                continue
            head = self._held[at : at + HEAD_LEN]
            if len(head) < HEAD_LEN:
                break
            length = int.from_bytes(head[:3], "big")
            if head[3] != GOAWAY:
                self._pass = HEAD_LEN + length
                continue
            if not GOAWAY_LEN <= length <= MAX_GOAWAY or any(head[5:]):
                msg = "bad HTTP/2: GOAWAY"
                raise BadPacket(msg)
            frame = self._held[at + HEAD_LEN : at + HEAD_LEN + length]
            if len(frame) < length:
                break
            at += HEAD_LEN + length
            last = int.from_bytes(frame[:4], "big") & STREAM_MASK
            found.append(Goodbye(last, int.from_bytes(frame[4:8], "big")))
        del self._held[:at]
        return b"".join(out), found
