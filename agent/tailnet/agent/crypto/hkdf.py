"""HKDF over SHA-256 (RFC 5869)."""


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Extract and expand: ``length`` bytes, at most 255 · 32."""
    # Imported here: 8 MB, for the few whose state is encrypted.
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    return HKDF(SHA256(), length, salt, info).derive(secret)
