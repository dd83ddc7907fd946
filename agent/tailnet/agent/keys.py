"""Typed keys and their text forms.

A text form is a fixed prefix and lower-case hex of fixed length; parsers take either hex case and
never echo what they were given.  Machine and node private keys share the prefix ``privkey:``.

Source: tailscale types/key/{machine,node,disco,nl,chal}.go.
"""

import base64
from typing import ClassVar, NamedTuple, NewType, Self

from tailnet.agent.errors import BadPacket
from tailnet.agent.secret import Secret

PeerId = NewType("PeerId", int)
"""Handle of a peer within this process: positive, at most 31 bits, bound to one node key, never
reused.  It is what the rooms call a peer among themselves; keys and addresses may move."""

KEY_LEN = 32  # bytes; every key but the tailnet-lock private key
_ZERO = bytes(KEY_LEN)


def _parse_hex(text: str, prefix: str, size: int) -> bytes:
    head, colon, digits = text.partition(":")
    if head + colon != prefix or len(digits) != 2 * size:
        msg = f"not a key of the form {prefix}<{2 * size} hex digits>"
        raise BadPacket(msg)
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if len(raw) != size:  # fromhex skips spaces
        msg = f"bad hex after {prefix}"
        raise BadPacket(msg)
    return raw


class PublicKey:
    """A 32-byte public key.  Two keys of different kinds are never equal.

    Attributes:
        raw: 32 bytes.
    """

    __slots__ = ("raw",)
    PREFIX: ClassVar[str]

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_LEN:
            msg = f"a {type(self).__name__} has {KEY_LEN} bytes"
            raise BadPacket(msg)
        self.raw = bytes(raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form; the empty string is the zero key.

        Raises:
            BadPacket: wrong prefix, length or digits.
        """
        key = cls.__new__(cls)  # a large network map has 30,000 of them
        key.raw = _parse_hex(text, cls.PREFIX, KEY_LEN) if text else _ZERO
        return key

    @property
    def is_zero(self) -> bool:
        """True for 32 zero bytes, which mean "no key"."""
        return self.raw == _ZERO

    @property
    def short(self) -> str:
        """Form for people and logs: ``[`` + 5 characters of base64 + ``]``; empty if zero."""
        return "" if self.is_zero else f"[{base64.b64encode(self.raw).decode()[:5]}]"

    def __str__(self) -> str:
        return self.PREFIX + self.raw.hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.short or 'zero'})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)  # which remembers it


class MachinePublic(PublicKey):
    """Identity of an installation, and of a control server (X25519)."""

    __slots__ = ()
    PREFIX = "mkey:"


class NodePublic(PublicKey):
    """WireGuard static key and DERP identity of a node (X25519)."""

    __slots__ = ()
    PREFIX = "nodekey:"


class DiscoPublic(PublicKey):
    """Path-discovery key of a running process (X25519, NaCl box)."""

    __slots__ = ()
    PREFIX = "discokey:"

    @property
    def short(self) -> str:
        """``d:`` + 16 hex digits; empty if zero."""
        return "" if self.is_zero else f"d:{self.raw.hex()[:16]}"


class LockPublic(PublicKey):
    """Tailnet-lock key (Ed25519)."""

    __slots__ = ()
    PREFIX = "nlpub:"


class ChallengePublic(PublicKey):
    """Challenge key of the control server's early payload (X25519)."""

    __slots__ = ()
    PREFIX = "chalpub:"


class PrivateKey(Secret):
    """A secret key of ``SIZE`` bytes; ``text()`` is for the state file only."""

    __slots__ = ()
    PREFIX: ClassVar[str] = "privkey:"
    SIZE: ClassVar[int] = KEY_LEN

    def __init__(self, raw: bytes) -> None:
        if len(raw) != self.SIZE:
            msg = f"a {type(self).__name__} has {self.SIZE} bytes"
            raise BadPacket(msg)
        super().__init__(raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form.

        Raises:
            BadPacket: wrong prefix, length or digits; the message does not contain the key.
        """
        return cls(_parse_hex(text, cls.PREFIX, cls.SIZE))

    def text(self) -> str:
        """Text form with the secret in it."""
        return self.PREFIX + self.raw.hex()


class _X25519Private(PrivateKey):
    """An X25519 private key, clamped when made, so that every implementation stores the same."""

    __slots__ = ()

    @classmethod
    def from_random(cls, random32: bytes) -> Self:
        """Clamp 32 random bytes into a private key."""
        b = bytearray(random32)
        b[0] &= 248
        b[31] = (b[31] & 127) | 64
        return cls(bytes(b))


class MachinePrivate(_X25519Private):
    """Private half of :class:`MachinePublic`."""

    __slots__ = ()


class NodePrivate(_X25519Private):
    """Private half of :class:`NodePublic`."""

    __slots__ = ()


class DiscoPrivate(_X25519Private):
    """Private half of :class:`DiscoPublic`; lives as long as the process."""

    __slots__ = ()


class LockPrivate(PrivateKey):
    """Ed25519 private key in Go's 64-byte form: seed ‖ public key."""

    __slots__ = ()
    PREFIX = "nlpriv:"
    SIZE = 64


class RelayAddr(NamedTuple):
    """A node behind a DERP region: what ``AddrPort`` is for UDP."""

    region: int
    key: NodePublic
