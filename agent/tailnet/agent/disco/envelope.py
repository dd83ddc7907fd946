"""The envelope around every disco message.

::

    magic 6 ("TS💬") ‖ sender's disco key 32 ‖ nonce 24 ‖ NaCl box (tag 16 ‖ ciphertext)

Source: tailscale disco/disco.go, types/key/disco.go.
"""

from tailnet.agent.crypto.box import NONCE_LEN, TAG_LEN, Box
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import KEY_LEN, DiscoPrivate, DiscoPublic

MAGIC = "TS💬".encode()
HEADER_LEN = len(MAGIC) + KEY_LEN + NONCE_LEN  # 62 bytes before the box
OVERHEAD = HEADER_LEN + TAG_LEN  # bytes added to a message

SHARED_KEYS_MAX = 4096  # precomputed boxes kept, about 0.3 KB each; the least recently used goes


def looks_like_disco(data: bytes) -> bool:
    """True for what must be disco: no WireGuard message begins like this."""
    return len(data) >= HEADER_LEN and data.startswith(MAGIC)


def sender_untrusted(data: bytes) -> DiscoPublic:
    """The claimed sender, to be looked up before any cryptography.

    Raises:
        BadPacket: not disco.
    """
    if not looks_like_disco(data):
        msg = "not a disco message"
        raise BadPacket(msg)
    return DiscoPublic(data[len(MAGIC) : len(MAGIC) + KEY_LEN])


class Sealer:
    """Seals and opens envelopes with one private key; remembers the shared keys.

    Attributes:
        public: our own disco key.
    """

    def __init__(self, private: DiscoPrivate) -> None:
        self._private = private
        self.public = public_of(private)
        self._boxes: dict[DiscoPublic, Box] = {}

    def seal(self, to: DiscoPublic, nonce: bytes, plaintext: bytes) -> bytes:
        """A datagram for ``to``; ``nonce`` is 24 random bytes.

        Raises:
            BadPacket: ``to`` is a low-order point.
        """
        return MAGIC + self.public.raw + nonce + self._box(to).seal(nonce, plaintext)

    def open_untrusted(self, data: bytes) -> bytes:
        """Plaintext of a datagram.  Call :func:`sender_untrusted` first and know the sender.

        Raises:
            BadPacket: not disco, or not sealed by that sender for us.
        """
        box = self._box(sender_untrusted(data))
        return box.open_untrusted(data[HEADER_LEN - NONCE_LEN : HEADER_LEN], data[HEADER_LEN:])

    def forget(self, key: DiscoPublic) -> None:
        """No peer has this key any longer."""
        self._boxes.pop(key, None)

    def _box(self, key: DiscoPublic) -> Box:
        box = self._boxes.pop(key, None) or Box(self._private.raw, key.raw)
        self._boxes[key] = box
        if len(self._boxes) > SHARED_KEYS_MAX:
            del self._boxes[next(iter(self._boxes))]
        return box
