"""How the host resolves names, and what a name is."""

from functools import partial

from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.dns.own import add_own, parse_own, remove_own
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request, Response, json, problem, text
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.localapi.schema.basics import decode
from tailnet.agent.localapi.schema.names import DNSLocalRecord

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


async def records(backend: Backend, _: Request) -> Response:
    """``GET dns-records``."""
    return _as_records(backend.prefs())


async def add_record(backend: Backend, request: Request) -> Response:
    """``POST dns-records``: a name and addresses, besides those it has."""
    try:
        wanted = decode(request.body, DNSLocalRecord)
        change = partial(add_own, name=wanted.name, addresses=wanted.addresses)
        return _as_records(await backend.change_dns_records(change))
    except (UserError, ValueError) as error:
        return problem(400, str(error))


async def remove_record(backend: Backend, request: Request) -> Response:
    """``DELETE dns-records``: those ``addresses`` of a ``name``, or all."""
    addresses = [each for each in request.query.get("addresses", "").split(",") if each]
    change = partial(remove_own, name=request.query.get("name", ""), addresses=addresses)
    try:
        return _as_records(await backend.change_dns_records(change))
    except UserError as error:
        return problem(400, str(error))


def _as_records(prefs: Prefs) -> Response:
    known = parse_own(prefs.dns_records or ())
    return json(
        [DNSLocalRecord(name=name, addresses=tuple(map(str, ips))) for name, ips in known.items()]
    )
