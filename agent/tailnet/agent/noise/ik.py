"""Noise's pattern IK, alone and with a pre-shared key in the second message (psk2).

::

    ← s                            the initiator knows the responder's static key
    → e, es, s, ss                 first message:  ephemeral 32  sealed static 48  sealed payload
    ← e, ee, se (psk)              second message: ephemeral 32  sealed payload

Each key seals one message here, so every nonce is zero.  A :class:`State` is a value: whoever
keeps the one of before can read again what failed to authenticate.

Source: the Noise Protocol Framework, revision 34, §4, §5 and §9.
"""

from dataclasses import dataclass, replace

from tailnet.agent.crypto.aead import TAG_LEN, Aead
from tailnet.agent.crypto.kdf import hash_, kdf
from tailnet.agent.crypto.x25519 import KEY_LEN, public_bytes, shared
from tailnet.agent.errors import BadPacket

_NONCE = bytes(12)
_SEALED_KEY_LEN = KEY_LEN + TAG_LEN


@dataclass(frozen=True, slots=True, repr=False)
class State:
    """A handshake under way (the framework's SymmetricState).

    Attributes:
        chaining: what the next key is derived from.
        hash: over all that both sides have seen; authenticated by each message.
        key: of the next thing to be sealed; empty before the first agreement.
        psk: 32 bytes; ``None`` for the pattern without one.
    """

    chaining: bytes
    hash: bytes
    key: bytes
    psk: bytes | None

    def mix_hash(self, data: bytes) -> "State":
        """Both sides have seen ``data``."""
        return replace(self, hash=hash_(self.hash + data))

    def mix_key(self, secret: bytes) -> "State":
        """Both sides know ``secret``."""
        chaining, key = kdf(self.chaining, secret, 2)
        return replace(self, chaining=chaining, key=key)

    def mix_ephemeral(self, public: bytes) -> "State":
        """The token "e": with a pre-shared key it is mixed into the key as well (§9.2)."""
        seen = self.mix_hash(public)
        return seen if self.psk is None else seen.mix_key(public)

    def mix_psk(self) -> "State":
        """The token "psk", of the pattern that has one."""
        if self.psk is None:
            return self
        chaining, seen, key = kdf(self.chaining, self.psk, 3)
        return replace(self, chaining=chaining, key=key).mix_hash(seen)

    def seal(self, plaintext: bytes) -> tuple["State", bytes]:
        """Ciphertext ‖ tag, and the state after it."""
        sealed = Aead(self.key).seal(_NONCE, plaintext, self.hash)
        return self.mix_hash(sealed), sealed

    def open_untrusted(self, sealed: bytes) -> tuple["State", bytes]:
        """The plaintext, and the state after it.

        Raises:
            BadPacket: it does not authenticate.
        """
        try:
            plaintext = Aead(self.key).open_untrusted(_NONCE, sealed, self.hash)
        except BadPacket:
            msg = "handshake does not authenticate"
            raise BadPacket(msg) from None
        return self.mix_hash(sealed), plaintext

    def split(self) -> tuple[bytes, bytes]:
        """After the second message: the initiator's key to send, and the responder's."""
        first, second = kdf(self.chaining, b"", 2)
        return first, second


def start(name: bytes, prologue: bytes, responder: bytes, psk: bytes | None = None) -> State:
    """The state before the first message, of either side.

    Args:
        name: of the protocol, more than 32 bytes (all names of this pattern with BLAKE2s).
        prologue: what both sides must agree on.
        responder: its public static key.
        psk: 32 bytes; ``None`` for the pattern without one.
    """
    hashed = hash_(name)
    return State(hashed, hashed, b"", psk).mix_hash(prologue).mix_hash(responder)


@dataclass(frozen=True, slots=True, repr=False)
class First:
    """A first message that authenticated.

    Attributes:
        static: who sent it.
        ephemeral: the sender's public ephemeral key.
    """

    static: bytes
    ephemeral: bytes
    payload: bytes


def write_first(
    state: State, private: bytes, ephemeral: bytes, responder: bytes, payload: bytes
) -> tuple[State, bytes]:
    """As initiator: the first message.

    Args:
        state: as made by :func:`start`.
        private: our static key.
        ephemeral: 32 random bytes, never used twice.
        responder: its public static key.
        payload: sealed in it.

    Raises:
        BadPacket: the responder's key is a low-order point.
    """
    public = public_bytes(ephemeral)
    state = state.mix_ephemeral(public)
    state = state.mix_key(shared(ephemeral, responder))
    state, static = state.seal(public_bytes(private))
    state = state.mix_key(shared(private, responder))
    state, sealed = state.seal(payload)
    return state, public + static + sealed


def read_first_untrusted(state: State, private: bytes, message: bytes) -> tuple[State, First]:
    """As responder: open a first message.

    Raises:
        BadPacket: it does not authenticate, or a key in it is a low-order point.
    """
    ephemeral, rest = message[:KEY_LEN], message[KEY_LEN:]
    state = state.mix_ephemeral(ephemeral)
    state = state.mix_key(shared(private, ephemeral))
    state, static = state.open_untrusted(rest[:_SEALED_KEY_LEN])
    state = state.mix_key(shared(private, static))
    state, payload = state.open_untrusted(rest[_SEALED_KEY_LEN:])
    return state, First(static, ephemeral, payload)


def write_second(
    state: State, ephemeral: bytes, first: First, payload: bytes
) -> tuple[State, bytes]:
    """As responder: the second message.

    Args:
        state: after the first message.
        ephemeral: 32 random bytes, never used twice.
        first: what it answers.
        payload: sealed in it.

    Raises:
        BadPacket: a key of the initiator is a low-order point.
    """
    public = public_bytes(ephemeral)
    state = state.mix_ephemeral(public)
    state = state.mix_key(shared(ephemeral, first.ephemeral))
    state = state.mix_key(shared(ephemeral, first.static)).mix_psk()
    state, sealed = state.seal(payload)
    return state, public + sealed


def read_second_untrusted(
    state: State, private: bytes, ephemeral: bytes, message: bytes
) -> tuple[State, bytes]:
    """As initiator: open the second message; its payload.

    Args:
        state: after the first message.
        private: our static key.
        ephemeral: as in :func:`write_first`.
        message: what was received.

    Raises:
        BadPacket: it does not authenticate, or the key in it is a low-order point.
    """
    theirs = message[:KEY_LEN]
    state = state.mix_ephemeral(theirs)
    state = state.mix_key(shared(ephemeral, theirs))
    state = state.mix_key(shared(private, theirs)).mix_psk()
    return state.open_untrusted(message[KEY_LEN:])
