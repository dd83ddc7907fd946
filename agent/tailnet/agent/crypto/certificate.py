"""Names and pins of TLS certificates, where the TLS library's own check does not fit.

Source: RFC 6125 section 6.4 (names); tailscale net/tlsdial/tlsdial.go SetConfigExpectedCertHash.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING

from tailnet.agent.crypto.kdf import equal
from tailnet.agent.errors import BadPacket

if TYPE_CHECKING:
    from cryptography import x509


def check_name_untrusted(der: bytes, name: str) -> None:
    """Accept a certificate (DER) that is valid for a host name or literal address.

    Only subjectAltName counts; ``*`` stands for one leftmost label.

    Raises:
        BadPacket: it is for somebody else, or damaged.
    """
    _check_name(_load(der), name)


def check_pin_untrusted(der: bytes, sha256_hex: str, name: str, wall: datetime) -> None:
    """Accept exactly one certificate, while it is valid and if it is for ``name``.

    Args:
        der: the server's own certificate, the first of its chain.
        sha256_hex: 64 hex digits over the DER form.
        name: host name or literal address; empty accepts any.
        wall: the time that has to lie in its validity.

    Raises:
        BadPacket: any of this is not so.
    """
    if not equal(hashlib.sha256(der).hexdigest().encode(), sha256_hex.lower().encode()):
        msg = "the certificate is not the pinned one"
        raise BadPacket(msg)
    certificate = _load(der)
    try:
        current = certificate.not_valid_before_utc <= wall <= certificate.not_valid_after_utc
    except ValueError:
        current = False
    if not current:
        msg = "the pinned certificate is not valid now"
        raise BadPacket(msg)
    if name:
        _check_name(certificate, name)


def _load(der: bytes) -> "x509.Certificate":
    from cryptography import x509  # noqa: PLC0415 - 10 MB that few networks need

    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):  # the latter is no ValueError
        msg = "not a certificate"
        raise BadPacket(msg) from None


def _check_name(certificate: "x509.Certificate", name: str) -> None:
    from cryptography import x509  # noqa: PLC0415

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        accepted = any(_accepts(names, name))
    except (
        ValueError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        accepted = False
    if not accepted:
        msg = "the certificate is for another name"
        raise BadPacket(msg)


def _accepts(names: "x509.SubjectAlternativeName", name: str) -> Iterator[bool]:
    from cryptography import x509  # noqa: PLC0415

    try:
        ip = ip_address(name)
    except ValueError:
        wanted = name.rstrip(".").lower()
        _, _, parent = wanted.partition(".")
        for dns in names.get_values_for_type(x509.DNSName):
            pattern = dns.lower()
            yield pattern == wanted or (bool(parent) and pattern == f"*.{parent}")
    else:
        yield ip in names.get_values_for_type(x509.IPAddress)
