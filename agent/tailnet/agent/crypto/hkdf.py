"""HKDF over SHA-256 (RFC 5869)."""

import hmac

HASH_LEN = 32  # bytes


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Extract and expand: ``length`` bytes, at most 255 · 32."""
    key = hmac.digest(salt or bytes(HASH_LEN), secret, "sha256")
    out = last = b""
    for number in range(1, -(-length // HASH_LEN) + 1):
        last = hmac.digest(key, last + info + bytes([number]), "sha256")
        out += last
    return out[:length]
