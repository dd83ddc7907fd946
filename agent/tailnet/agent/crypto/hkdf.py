"""HKDF over SHA-256 (RFC 5869)."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Extract and expand: ``length`` bytes, at most 255 · 32."""
    return HKDF(SHA256(), length, salt, info).derive(secret)
