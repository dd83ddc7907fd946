"""Records: the byte stream inside a control connection.

A record carries at most 4077 bytes of plaintext; integers are big-endian::

    u8 = 4   u16 length of ciphertext (16 to 4093)   ciphertext ‖ 16-byte tag

Plaintext is one stream per direction: record boundaries mean nothing.  The nonce is four zero
bytes and a counter in *big-endian* order, unlike in the Noise specification; there is no rekeying.

Source: tailscale control/controlbase/conn.go.
"""

from tailnet.agent.crypto.aead import TAG_LEN, Aead
from tailnet.agent.errors import BadPacket, LocalProtocolError
from tailnet.agent.noise.control import TYPE_ERROR, TransportKeys

TYPE_RECORD = 4
HEADER_LEN = 3
MAX_FRAME = 4096  # bytes; conn.go maxMessageSize
MAX_CIPHERTEXT = MAX_FRAME - HEADER_LEN
MAX_PLAINTEXT = MAX_CIPHERTEXT - TAG_LEN
MAX_COUNTER = 2**64 - 1  # never used


class RecordStream:
    """Seals one direction and opens the other, after a handshake.

    Any error is final: the counter of a lost record cannot be found again.
    """

    def __init__(self, keys: TransportKeys) -> None:
        self._seal = Aead(keys.send).seal
        self._opener = Aead(keys.receive)
        self._sent = 0
        self._received = 0
        self._buffer = bytearray()
        self._broken = False

    def seal(self, plaintext: bytes) -> bytes:
        """Records that carry ``plaintext``, any length; nothing for nothing.

        Raises:
            LocalProtocolError: the counter is used up.
        """
        out = []
        for start in range(0, len(plaintext), MAX_PLAINTEXT):
            if self._sent >= MAX_COUNTER:
                msg = "a control connection ran out of nonces"
                raise LocalProtocolError(msg)
            chunk = plaintext[start : start + MAX_PLAINTEXT]
            sealed = self._seal(_nonce(self._sent), chunk, None)
            self._sent += 1
            out += [bytes([TYPE_RECORD]), len(sealed).to_bytes(2, "big"), sealed]
        return b"".join(out)

    def open_untrusted(self, data: bytes) -> bytes:
        """Plaintext of the records that ``data``, in chunks of any size, completes.

        Raises:
            BadPacket: not a record, or it does not authenticate; the connection is over.
        """
        if self._broken:
            msg = "the record stream is broken"
            raise BadPacket(msg)
        self._buffer += data
        out = []
        position = 0
        self._broken = True  # unless this ends well
        while (frame := self._next_frame_untrusted(position)) is not None:
            out.append(self._opener.open_untrusted(_nonce(self._received), frame, None))
            self._received += 1
            position += HEADER_LEN + len(frame)
        self._broken = False
        del self._buffer[:position]
        return b"".join(out)

    def _next_frame_untrusted(self, position: int) -> bytes | None:
        head = self._buffer[position : position + HEADER_LEN]
        if not head:
            return None
        if head[0] != TYPE_RECORD:
            msg = "an error frame" if head[0] == TYPE_ERROR else "not a record"
            raise BadPacket(msg)
        if len(head) < HEADER_LEN:
            return None
        length = int.from_bytes(head[1:], "big")
        if not TAG_LEN <= length <= MAX_CIPHERTEXT:
            msg = "a record of impossible size"
            raise BadPacket(msg)
        start = position + HEADER_LEN
        if len(self._buffer) < start + length:
            return None
        return bytes(self._buffer[start : start + length])


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "big")


EARLY_MAGIC = b"\xff\xff\xffTS"
EARLY_HEADER_LEN = 9
MAX_EARLY_PAYLOAD = 10 << 20  # bytes of JSON; ts2021/conn.go


class EarlyPayload:
    """Takes the server's optional first message off the stream of plaintext.

    ``ff ff ff 54 53``, u32 big-endian length, JSON.  No HTTP/2 frame can begin like that, so when
    the first nine bytes are something else they are handed on as they are.

    Attributes:
        payload: the JSON, or ``None`` (yet, or at all).
    """

    def __init__(self) -> None:
        self.payload: bytes | None = None
        self._buffer = bytearray()
        self._done = False

    def strip_untrusted(self, data: bytes) -> bytes:
        """What of ``data``, and of bytes held back before, belongs to HTTP/2.

        Raises:
            BadPacket: the announced length is beyond any reason.
        """
        if self._done:
            return data
        self._buffer += data
        head = bytes(self._buffer[:EARLY_HEADER_LEN])
        if not EARLY_MAGIC.startswith(head[: len(EARLY_MAGIC)]):
            return self._finish(0)
        if len(head) < EARLY_HEADER_LEN:
            return b""
        length = int.from_bytes(head[len(EARLY_MAGIC) :], "big")
        if length > MAX_EARLY_PAYLOAD:
            msg = "early payload too long"
            raise BadPacket(msg)
        if len(self._buffer) < EARLY_HEADER_LEN + length:
            return b""
        self.payload = bytes(self._buffer[EARLY_HEADER_LEN : EARLY_HEADER_LEN + length])
        return self._finish(EARLY_HEADER_LEN + length)

    def _finish(self, skip: int) -> bytes:
        self._done = True
        rest = bytes(self._buffer[skip:])
        self._buffer.clear()
        return rest


def early_payload(json: bytes) -> bytes:
    """The server's side of :class:`EarlyPayload`."""
    return EARLY_MAGIC + len(json).to_bytes(4, "big") + json
