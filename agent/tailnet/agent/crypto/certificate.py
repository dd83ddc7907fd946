"""Names and pins of TLS certificates, where the TLS library's own check does not fit.

Source: RFC 6125 section 6.4 (names); tailscale net/tlsdial/tlsdial.go SetConfigExpectedCertHash.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address

from tailnet.agent.crypto.der import Certificate, read_certificate_untrusted
from tailnet.agent.crypto.kdf import equal
from tailnet.agent.errors import BadPacket


def check_name_untrusted(der: bytes, name: str) -> None:
    """Accept a certificate (DER) that is valid for a host name or literal address.

    Only subjectAltName counts; ``*`` stands for one leftmost label.

    Raises:
        BadPacket: it is for somebody else, or damaged.
    """
    _check_name(read_certificate_untrusted(der), name)


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
    certificate = read_certificate_untrusted(der)
    if not certificate.begins <= wall <= certificate.ends:
        msg = "the pinned certificate is not valid now"
        raise BadPacket(msg)
    if name:
        _check_name(certificate, name)


def _check_name(certificate: Certificate, name: str) -> None:
    if not any(_accepts(certificate, name)):
        msg = "the certificate is for another name"
        raise BadPacket(msg)


def _accepts(certificate: Certificate, name: str) -> Iterator[bool]:
    try:
        ip = ip_address(name)
    except ValueError:
        wanted = name.rstrip(".").lower()
        _, _, parent = wanted.partition(".")
        for dns in certificate.names:
            pattern = dns.lower()
            yield pattern == wanted or (bool(parent) and pattern == f"*.{parent}")
    else:
        yield ip in certificate.addresses
