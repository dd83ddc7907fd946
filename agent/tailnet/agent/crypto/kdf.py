"""BLAKE2s as hash, MAC and key derivation, under the WireGuard paper's names."""

import hashlib
import hmac


def hash_(data: bytes) -> bytes:
    """HASH: BLAKE2s-256, unkeyed; 32 bytes."""
    return hashlib.blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """MAC: keyed BLAKE2s with 16-byte output; ``key`` at most 32 bytes."""
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


def hmac_(key: bytes, data: bytes) -> bytes:
    """HMAC over BLAKE2s-256 (64-byte block), which is not keyed BLAKE2s; 32 bytes."""
    return hmac.digest(key, data, "blake2s256")


def kdf(key: bytes, data: bytes, n: int) -> tuple[bytes, ...]:
    """KDF_n of the WireGuard paper §5.4 (Noise's HKDF): ``n`` outputs of 32 bytes."""
    prk = hmac_(key, data)
    out: list[bytes] = []
    last = b""
    for i in range(1, n + 1):
        last = hmac_(prk, last + bytes([i]))
        out.append(last)
    return tuple(out)


def equal(a: bytes, b: bytes) -> bool:
    """Compare without leaking where the difference is."""
    return hmac.compare_digest(a, b)
