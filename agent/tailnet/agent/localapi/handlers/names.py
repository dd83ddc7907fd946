"""How the host resolves names, and what a name is."""

from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request, Response, json, text
from tailnet.agent.localapi.interface import Backend

MAX_NAME = 255  # characters
TYPES = {
    "A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "HINFO": 13, "MX": 15, "TXT": 16, "AAAA": 28,
    "SRV": 33, "NAPTR": 35, "DS": 43, "SSHFP": 44, "DNSKEY": 48, "TLSA": 52, "SVCB": 64,
    "HTTPS": 65, "ANY": 255, "CAA": 257,
}  # fmt: skip
"""By the names that IANA has given them; others are asked for as ``TYPE123`` (RFC 3597)."""


def parse_type(word: str) -> int | None:
    """The number of a type; ``None``: there is no such type."""
    name = word.upper() or "A"
    digits = name.removeprefix("TYPE")
    if digits != name and digits.isascii() and digits.isdecimal() and len(digits) <= 5:
        number = int(digits)
        return number if 0 < number <= 0xFFFF else None
    return TYPES.get(name)


async def osconfig(backend: Backend, _: Request) -> Response:
    """``GET dns-osconfig``."""
    try:
        return json(await backend.dns_osconfig())
    except UserError as error:
        return text(500, str(error))


async def query(backend: Backend, request: Request) -> Response:
    """``GET dns-query``: a ``name``, and a ``type``."""
    name, kind = request.query.get("name", ""), request.query.get("type", "")
    qtype = parse_type(kind)
    if qtype is None:
        return text(400, f"there is no DNS type {kind[:32]!r}; write it like AAAA, or TYPE123")
    if not 0 < len(name) <= MAX_NAME:
        return text(400, "missing 'name' parameter")
    return json(await backend.dns_query(name, qtype))
