"""X25519 and the public halves of typed keys."""

from typing import overload

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

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


def public_bytes(private: bytes) -> bytes:
    """32-byte public key of a 32-byte private key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def shared(private: bytes, public: bytes) -> bytes:
    """32-byte shared secret.

    Raises:
        BadPacket: ``public`` is a low-order point (the secret would be all zero).
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:
        msg = "low-order public key"
        raise BadPacket(msg) from None


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
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return LockPrivate(seed + public)
