r"""Files that only the holder of a secret can read or change.

::

    0                        17        49        65
    ├── "tailnet-sealed/1\n" ┼─ salt ──┼─ check ─┼─ segment 0 ─┼─ segment 1 ─┼─ … ─┼─ last ─┤

    key ‖ check = HKDF-SHA256(secret, salt, info = purpose)        32 ‖ 16 bytes
    segment i   = ChaCha20-Poly1305(key, nonce = i (11 bytes) ‖ last? (1 byte), AD = header)
                  over 65536 bytes of plaintext, the last one over 0 to 65536

The salt is new for every file, and so is the key; ``check`` tells a wrong secret from damage.  The
numbered nonces keep segments in their places, and the mark of the last one keeps a file from being
cut short (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tailnet.agent.crypto.aead import TAG_LEN, Aead
from tailnet.agent.crypto.hkdf import hkdf
from tailnet.agent.crypto.kdf import equal
from tailnet.agent.errors import BadPacket

FAMILY = b"tailnet-sealed/"
MAGIC = FAMILY + b"1\n"
SALT_LEN = 32
CHECK_LEN = 16
HEADER_LEN = len(MAGIC) + SALT_LEN + CHECK_LEN
SEGMENT = 1 << 16  # bytes of plaintext
MIN_SECRET = 32  # bytes
MAX_SECRET = 4096


class WrongKey(BadPacket):
    """The secret is not the one that the file was sealed with."""


def is_sealed(data: bytes) -> bool:
    """A file of this form, of whatever version; its beginning is enough."""
    return data.startswith(FAMILY)


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals and opens with one secret, which has 32 bytes or more of any kind and never prints."""

    secret: bytes = field(repr=False)
    random_bytes: Callable[[int], bytes] = field(repr=False)

    def seal(self, pieces: Iterable[bytes], purpose: str) -> Iterator[bytes]:
        """The sealed file of what ``pieces`` make together; ``purpose`` keeps files apart."""
        salt = self.random_bytes(SALT_LEN)
        aead, check = self._keys(salt, purpose)
        header = MAGIC + salt + check
        yield header
        buffer = bytearray()
        index = 0
        for piece in pieces:
            buffer += piece
            while len(buffer) > SEGMENT:
                yield aead.seal(_nonce(index, last=False), bytes(buffer[:SEGMENT]), header)
                del buffer[:SEGMENT]
                index += 1
        yield aead.seal(_nonce(index, last=True), bytes(buffer), header)

    def open_untrusted(self, data: bytes, purpose: str) -> bytes:
        """What is inside.

        Raises:
            WrongKey: sealed with another secret, or for another purpose.
            BadPacket: damaged, cut short, or of another version.
        """
        header = data[:HEADER_LEN]
        if not header.startswith(MAGIC):
            msg = "it is of a form that this version cannot read"
            raise BadPacket(msg)
        if len(data) < HEADER_LEN + TAG_LEN:
            msg = "it is cut short"
            raise BadPacket(msg)
        aead, check = self._keys(header[len(MAGIC) : -CHECK_LEN], purpose)
        if not equal(check, header[-CHECK_LEN:]):
            msg = "it was encrypted with another key"
            raise WrongKey(msg)
        out = bytearray()
        step = SEGMENT + TAG_LEN
        count = -(-(len(data) - HEADER_LEN) // step)
        for index in range(count):
            at = HEADER_LEN + index * step
            nonce = _nonce(index, last=index == count - 1)
            out += aead.open_untrusted(nonce, data[at : at + step], header)
        return bytes(out)

    def _keys(self, salt: bytes, purpose: str) -> tuple[Aead, bytes]:
        material = hkdf(self.secret, salt, purpose.encode(), 32 + CHECK_LEN)
        return Aead(material[:32]), material[32:]


def _nonce(index: int, *, last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([last])
