"""X25519 and the public halves of typed keys."""

from typing import overload

from nacl import bindings
from nacl.exceptions import CryptoError

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import (
    DiscoPrivate,
    DiscoPublic,
    LockPrivate,
    LockPublic,
    MachinePrivate,
    MachinePublic,
    NodePrivate,
    NodePublic,
)

KEY_LEN = 32  # bytes, of either half


def public_bytes(private: bytes) -> bytes:
    """32-byte public key of a 32-byte private key."""
    _check(private)
    return bindings.crypto_scalarmult_base(private)


def shared(private: bytes, public: bytes) -> bytes:
    """32-byte shared secret.

    Raises:
        BadPacket: ``public`` is a low-order point (the secret would be all zero).
    """
    _check(private)
    _check(public)
    try:
        return bindings.crypto_scalarmult(private, public)
    except CryptoError:
        msg = "low-order public key"
        raise BadPacket(msg) from None


def _check(key: bytes) -> None:
    """Since the library reads 32 bytes, whatever it is given."""
    if len(key) != KEY_LEN:
        msg = "a key of impossible size"
        raise BadPacket(msg)


@overload
def public_of(key: MachinePrivate) -> MachinePublic: ...
@overload
def public_of(key: NodePrivate) -> NodePublic: ...
@overload
def public_of(key: DiscoPrivate) -> DiscoPublic: ...
@overload
def public_of(key: LockPrivate) -> LockPublic: ...
def public_of(
    key: MachinePrivate | NodePrivate | DiscoPrivate | LockPrivate,
) -> MachinePublic | NodePublic | DiscoPublic | LockPublic:
    """Public half of a typed private key, of the matching type."""
    match key:
        case MachinePrivate():
            return MachinePublic(public_bytes(key.raw))
        case NodePrivate():
            return NodePublic(public_bytes(key.raw))
        case DiscoPrivate():
            return DiscoPublic(public_bytes(key.raw))
        case LockPrivate():
            return LockPublic(key.raw[32:])


def lock_private(seed: bytes) -> LockPrivate:
    """Tailnet-lock key pair from a 32-byte random seed, in Go's 64-byte form."""
    _, private = bindings.crypto_sign_seed_keypair(seed)
    return LockPrivate(private)
