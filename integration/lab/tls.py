"""A throw-away certificate authority and one server certificate."""

import hashlib
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


class Certificate(NamedTuple):
    """Of a server, signed by a CA of its own; all but the hash are PEM.

    Attributes:
        leaf: the server's.
        key: its private key.
        ca: who signed it.
        sha256: of the leaf's DER form, in hex; what relays are pinned by.
    """

    leaf: bytes
    key: bytes
    ca: str
    sha256: str


def make_server_tls(
    names_or_ips: Sequence[str], *, announced: bool = False
) -> tuple[ssl.SSLContext, str, str]:
    """A server context, the SHA-256 (hex) of its certificate's DER form, and the CA in PEM.

    ``announced``: a certificate that names the relay's key follows, as derper's does.
    """
    made = make_certificate(names_or_ips)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.TemporaryDirectory() as folder:  # the ssl module reads files only
        path = Path(folder) / "server.pem"
        path.touch(0o600)
        path.write_bytes(made.leaf + (_announcement() if announced else b"") + made.key)
        context.load_cert_chain(path)
    return context, made.sha256, made.ca


def make_certificate(names_or_ips: Sequence[str]) -> Certificate:
    """A certificate for all of these names.

    CA and leaf are separate, since some clients refuse a CA certificate as a server's.
    """
    ca_key, leaf_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    ca_name = _name("lab CA")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(_subject_id(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    leaf = (
        _builder(_name(names_or_ips[0]), ca_name, leaf_key.public_key())
        .add_extension(x509.SubjectAlternativeName([_san(n) for n in names_or_ips]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_subject_id(leaf_key.public_key()), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Certificate(
        leaf=leaf.public_bytes(Encoding.PEM),
        key=leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ca=ca.public_bytes(Encoding.PEM).decode(),
        sha256=hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest(),
    )


def _announcement() -> bytes:
    """Self-signed, for no purpose of TLS (tailscale derp/derpserver/derpserver.go, MetaCert)."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = _name(f"derpkey{bytes(28).hex()}")
    made = _builder(name, name, key.public_key()).sign(key, None)
    return made.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 365 * DAY)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _san(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _subject_id(key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
