"""Claims about tailnet.agent.crypto.certificate."""

import hashlib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.crypto.certificate import check_name_untrusted, check_pin_untrusted
from tailnet.agent.errors import BadPacket

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def certificate(names: list[str], addresses: list[str]) -> bytes:
    """DER of a self-signed certificate valid for a day around ``NOW``."""
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    subject = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(2)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    san = [x509.DNSName(name) for name in names]
    ips = [x509.IPAddress(ip_address(address)) for address in addresses]
    if names or addresses:
        builder = builder.add_extension(x509.SubjectAlternativeName([*san, *ips]), critical=False)
    return builder.sign(key, None).public_bytes(Encoding.DER)


DER = certificate(["relay.example", "*.wild.example"], ["192.0.2.1", "2001:db8::1"])
PIN = hashlib.sha256(DER).hexdigest()


@pytest.mark.parametrize(
    "name",
    ["relay.example", "RELAY.example.", "a.wild.example", "192.0.2.1", "2001:db8:0::1"],
)
def test_names_of_the_certificate_are_accepted(name: str) -> None:
    """Case and the final dot do not matter, nor how an address is written."""
    check_name_untrusted(DER, name)


@pytest.mark.parametrize(
    "name",
    ["", "example", "x.relay.example", "wild.example", "a.b.wild.example", "192.0.2.2", "*"],
)
def test_other_names_are_refused(name: str) -> None:
    """A wildcard stands for one label."""
    with pytest.raises(BadPacket):
        check_name_untrusted(DER, name)


def test_a_certificate_without_names_is_for_nobody() -> None:
    """The common name does not count."""
    with pytest.raises(BadPacket):
        check_name_untrusted(certificate([], []), "relay.example")


def test_a_pin_accepts_this_certificate_only() -> None:
    """In upper-case hex too."""
    check_pin_untrusted(DER, PIN, "relay.example", NOW)
    check_pin_untrusted(DER, PIN.upper(), "", NOW)
    for der, pin, name in (
        (certificate(["relay.example"], []), PIN, "relay.example"),
        (DER, PIN[:-1], ""),
        (DER, "", ""),
        (DER, "\N{LATIN SMALL LETTER E WITH ACUTE}" * 64, ""),
        (DER, PIN, "other.example"),
    ):
        with pytest.raises(BadPacket):
            check_pin_untrusted(der, pin, name, NOW)


@pytest.mark.parametrize("when", [NOW - 2 * DAY, NOW + 2 * DAY])
def test_a_pinned_certificate_has_to_be_current(when: datetime) -> None:
    """Neither too young nor too old."""
    with pytest.raises(BadPacket):
        check_pin_untrusted(DER, PIN, "relay.example", when)


@given(st.binary(max_size=80), st.integers(0, len(DER) - 1))
def test_damaged_certificates_raise_nothing_but_bad_packet(noise: bytes, at: int) -> None:
    """Noise, or noise within a certificate."""
    for der in (noise, DER[:at] + noise + DER[at + len(noise) :], DER[:at]):
        try:
            check_name_untrusted(der, "relay.example")
            check_pin_untrusted(der, hashlib.sha256(der).hexdigest(), "192.0.2.1", NOW)
        except BadPacket:
            continue


def test_a_version_that_does_not_exist_is_damage() -> None:
    """Version 2, as X.509 counts them."""
    version = bytes.fromhex("a003020102")
    assert version in DER
    with pytest.raises(BadPacket, match="not a certificate"):
        check_name_untrusted(DER.replace(version, version[:-1] + b"\x01", 1), "relay.example")
