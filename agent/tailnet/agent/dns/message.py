"""The little of DNS messages that answering one question takes.

::

    0               2               4       6       8       10      12
    ┌───────────────┬───────────────┬───────┬───────┬───────┬───────┬─ question ── OPT ─┐
    │ id            │ flags         │ 1     │ ancount nscount arcount                   │
    └───────────────┴───────────────┴───────┴───────┴───────┴───────┴───────────────────┘
    flags:  QR  opcode(4)  AA  TC  RD  RA  Z(3)  rcode(4)

The question goes back as it came, in the case it was asked in.  Answers name it by a pointer to
offset 12.  A query with EDNS gets an OPT record of our own.

Source: RFC 1035 sections 3.2 and 4.1, RFC 6891 section 6.1.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from tailnet.agent.addr import IPAddress
from tailnet.agent.dns.names import Name, parse_name_untrusted
from tailnet.agent.errors import BadPacket

HEADER = Struct("!HHHHHH")
_FIXED = Struct("!HH")  # type, class
_RECORD = Struct("!HHHIH")  # pointer to the question, type, class, TTL, length
_TAIL = Struct("!HHIH")  # the same after a name
_SOA = Struct("!IIIII")

A, NS, SOA, PTR, HINFO, AAAA, OPT, AXFR, ANY = 1, 2, 6, 12, 13, 28, 41, 252, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_POINTER = 0xC00C  # to the question's name
MAX_WIRE_NAME = 255  # bytes
PLAIN_SIZE = 512  # bytes of a UDP answer to a client without EDNS
EDNS_SIZE = 4095  # bytes that we take and promise

_CUT = "a DNS answer that is cut off"

TTL = 5  # seconds of a positive answer: the tailnet changes under it
TTL_NEGATIVE = 10  # seconds


class Question(NamedTuple):
    """One question.

    Attributes:
        id: chosen by the client.
        flags: of the query.
        wire: name, type and class as sent.
        name: lower case; a byte that is not ASCII stands for itself (Latin-1).
        qtype, qclass: what is asked for.
        edns: bytes of UDP payload the client takes, ``None`` without EDNS.
    """

    id: int
    flags: int
    wire: bytes
    name: Name
    qtype: int
    qclass: int
    edns: int | None

    @property
    def limit(self) -> int:
        """Bytes that an answer by UDP may have."""
        return PLAIN_SIZE if self.edns is None else max(PLAIN_SIZE, min(self.edns, EDNS_SIZE))


class Query(NamedTuple):
    """A client's message, as it came.

    Attributes:
        question: what it asks.
        data: the whole message.
        tcp: it came by TCP: an answer of any size is welcome.
    """

    question: Question
    data: bytes
    tcp: bool


def parse_question_untrusted(data: bytes) -> Question:
    """The first question of a query.

    Raises:
        BadPacket: not a query, no question, or a name that is none.
    """
    if len(data) < HEADER.size:
        msg = "no DNS header"
        raise BadPacket(msg)
    ident, flags, questions, _, _, additional = HEADER.unpack_from(data)
    if flags & QR or not questions:
        msg = "not a DNS query"
        raise BadPacket(msg)
    labels, end = _labels_untrusted(data)
    if len(data) < end + _FIXED.size:
        msg = "a DNS question without type and class"
        raise BadPacket(msg)
    qtype, qclass = _FIXED.unpack_from(data, end)
    wire = data[HEADER.size : end + _FIXED.size]
    edns = None
    rest = end + _FIXED.size
    if additional and data[rest : rest + 3] == b"\0\0\x29" and len(data) >= rest + 11:
        edns = int.from_bytes(data[rest + 3 : rest + 5])
    return Question(ident, flags, wire, Name(".".join(labels)), qtype, qclass, edns)


def query_untrusted(text: str, qtype: int) -> bytes:
    """A question of our own, for answers of any size.

    Raises:
        BadPacket: ``text`` is no name.
    """
    wire = encode_name(parse_name_untrusted(text))
    head = HEADER.pack(0, RD, 1, 0, 0, 1)
    return head + wire + _FIXED.pack(qtype, IN) + b"\0" + _TAIL.pack(OPT, EDNS_SIZE, 0, 0)


def _labels_untrusted(data: bytes) -> tuple[list[str], int]:
    """Labels of the name after the header, and where it ends."""
    labels: list[str] = []
    at = HEADER.size
    while at < len(data) and at - HEADER.size < MAX_WIRE_NAME:
        size = data[at]
        if size == 0:
            return labels, at + 1
        label = data[at + 1 : at + 1 + size]
        if size > 63 or len(label) < size or b"." in label:
            break
        labels.append(label.lower().decode("latin-1"))
        at += 1 + size
    msg = "not a DNS name"
    raise BadPacket(msg)


def addresses_untrusted(data: bytes) -> list[IPAddress]:
    """Of all A and AAAA records of an answer, whatever names lead to them; IPv4 first.

    Raises:
        BadPacket: its records do not end where they should.
    """
    found: list[IPAddress] = []
    try:
        _, _, questions, answers, _, _ = HEADER.unpack_from(data)
        at = HEADER.size
        for _ in range(questions):
            at = _after_name(data, at) + _FIXED.size
        for _ in range(answers):
            at = _after_name(data, at)
            kind, qclass, _, size = _TAIL.unpack_from(data, at)
            at += _TAIL.size
            if len(data) < at + size:
                raise BadPacket(_CUT)
            if qclass == IN and kind in (A, AAAA) and size == (4 if kind == A else 16):
                found.append(ip_address(data[at : at + size]))
            at += size
    except (struct_error, IndexError):
        raise BadPacket(_CUT) from None
    return sorted(found, key=lambda ip: ip.version)


def _after_name(data: bytes, at: int) -> int:
    """Where a name that begins at ``at`` ends; a pointer ends it."""
    while size := data[at]:
        if size >= _POINTER >> 8:
            return at + 2
        at += 1 + size
    return at + 1


def encode_name(name: Name) -> bytes:
    """As labels, uncompressed.  ``name`` is one that parsed."""
    if not name:
        return b"\0"
    parts = (label.encode("latin-1") for label in name.split("."))
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"


def address_record(ip: IPAddress) -> bytes:
    """An A or AAAA record for the name in question."""
    kind = A if isinstance(ip, IPv4Address) else AAAA
    return _RECORD.pack(_POINTER, kind, IN, TTL, len(ip.packed)) + ip.packed


def pointer_record(name: Name) -> bytes:
    """A PTR record for the name in question."""
    wire = encode_name(name)
    return _RECORD.pack(_POINTER, PTR, IN, TTL, len(wire)) + wire


def soa_record(zone: Name, serial: int) -> bytes:
    """The authority section of "no": ``serial`` is Unix time [s]."""
    owner = encode_name(zone)
    times = _SOA.pack(serial & 0xFFFFFFFF, *[TTL_NEGATIVE] * 4)
    body = owner + owner + times
    return owner + _TAIL.pack(SOA, IN, TTL_NEGATIVE, len(body)) + body


def reply(
    question: Question,
    rcode: int,
    answers: Sequence[bytes] = (),
    authority: Sequence[bytes] = (),
    *,
    authoritative: bool = True,
) -> bytes:
    """A whole answer."""
    flags = QR | question.flags & (_OPCODE | RD) | (AA if authoritative else 0) | rcode
    flags |= RA if question.flags & RD else 0
    opt = b"" if question.edns is None else b"\0" + _TAIL.pack(OPT, EDNS_SIZE, 0, 0)
    counts = (1, len(answers), len(authority), 1 if opt else 0)
    head = HEADER.pack(question.id, flags, *counts)
    return b"".join((head, question.wire, *answers, *authority, opt))


def formerr_untrusted(data: bytes) -> bytes:
    """The answer to a query that does not parse; empty if it deserves none.

    Nothing of it is repeated but the id: a response is never answered, or two servers would talk
    to each other for ever.
    """
    if len(data) < HEADER.size:
        return b""
    ident, flags, *_ = HEADER.unpack_from(data)
    if flags & QR:
        return b""
    known = QR | flags & (_OPCODE | RD) | (RA if flags & RD else 0) | FORMERR
    return HEADER.pack(ident, known, 0, 0, 0, 0)


def truncated(answer: bytes, limit: int) -> bytes:
    """``answer`` with the TC bit if it is longer than ``limit`` bytes; nothing is cut.

    Source: tailscale net/dns/resolver/forwarder.go, truncated replies are passed on whole.
    """
    if len(answer) <= limit or len(answer) < HEADER.size:
        return answer
    flags = int.from_bytes(answer[2:4]) | TC
    return answer[:2] + flags.to_bytes(2) + answer[4:]
