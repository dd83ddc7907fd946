"""Claims about tailnet.agent.crypto.der; ``cryptography`` says what is right."""

from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import IPAddress
from tailnet.agent.crypto.der import Certificate, read_certificate_untrusted
from tailnet.agent.errors import BadPacket

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(st.lists(LABELS, min_size=1, max_size=4).map(".".join), max_size=30)
ADDRESSES = st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), max_size=5)
TIMES = st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - below
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
EXTENSIONS: list[x509.ExtensionType] = [
    x509.BasicConstraints(ca=True, path_length=None),
    x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]),
    x509.OCSPNoCheck(),
]


def issue(
    names: list[str],
    addresses: list[IPAddress],
    times: tuple[datetime, datetime],
    *,
    critical: bool = False,
    others: list[x509.ExtensionType] | None = None,
) -> bytes:
    """DER of a self-signed certificate."""
    subject = x509.Name([x509.NameAttribute(x509.OID_COMMON_NAME, "common")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(2**150)
        .not_valid_before(times[0])
        .not_valid_after(times[1])
    )
    for extension in others or []:
        builder = builder.add_extension(extension, critical=critical)
    san = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=critical)
    return builder.sign(KEY, None).public_bytes(Encoding.DER)


@given(NAMES, ADDRESSES, st.tuples(TIMES, TIMES).map(sorted), st.booleans(), st.data())
def test_dates_and_names_are_those_that_were_written(
    names: list[str],
    addresses: list[IPAddress],
    times: list[datetime],
    critical: bool,
    data: st.DataObject,
) -> None:
    """Whatever the lengths and the century, with other extensions and without any."""
    others = data.draw(st.lists(st.sampled_from(EXTENSIONS), unique_by=type))
    begins, ends = times
    der = issue(names, addresses, (begins, ends), critical=critical, others=others)
    read = read_certificate_untrusted(der)
    assert read == Certificate(begins, ends, tuple(names), tuple(addresses))
    theirs = x509.load_der_x509_certificate(der)
    assert (read.begins, read.ends) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)


DER = issue(
    ["relay.example"],
    [ip_address("192.0.2.1")],
    (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
)


@given(st.integers(0, len(DER) - 1))
def test_what_is_cut_short_is_not_a_certificate(length: int) -> None:
    """Wherever it is cut."""
    with pytest.raises(BadPacket):
        read_certificate_untrusted(DER[:length])


@given(st.integers(0, len(DER) - 1), st.binary(min_size=1, max_size=4))
def test_only_bad_packet_escapes_from_damage(at: int, noise: bytes) -> None:
    """Lengths beyond the end, tags of several bytes, times that are none."""
    damaged = DER[:at] + noise + DER[at + len(noise) :]
    with suppress(BadPacket):
        read_certificate_untrusted(damaged)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"260101000000Z", b"261301000000Z"),  # a month that is none
        (b"260101000000Z", b"260101000000+"),  # a zone
        (b"260101000000Z", b"26010100000 Z"),
        (bytes.fromhex("0603551d11"), bytes.fromhex("0683551d11")),  # an OID of impossible length
        (
            b"\x87\x04\xc0\x00\x02\x01",
            b"\x87\x03\xc0\x00\x02\x87\x00",
        ),  # 3 and 0 bytes
        (b"relay.example", b"relay\xff.xample"),
    ],
)
def test_what_makes_no_sense_is_refused(good: bytes, bad: bytes) -> None:
    """One thing wrong with what is in order otherwise."""
    assert good in DER
    with pytest.raises(BadPacket):
        read_certificate_untrusted(DER.replace(good, bad))


def test_something_after_it_is_refused() -> None:
    """A certificate is one item."""
    with pytest.raises(BadPacket):
        read_certificate_untrusted(DER + DER)
