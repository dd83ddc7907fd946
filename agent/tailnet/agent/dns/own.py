"""Names of this host alone: in prefs as text, in the resolver as records.

::

    nas.home=192.168.1.9,fd00::9        one name
    *.dev.lan=127.0.0.1                 everything below dev.lan, at any depth
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from tailnet.agent.addr import IPAddress
from tailnet.agent.dns.names import MAX_NAME, Name
from tailnet.agent.errors import UserError

MAX_ADDRESSES = 16  # of one name
_NAME = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)
_SHOWN = 64  # characters of what somebody wrote, in an error


def parse_own(texts: Iterable[str]) -> dict[Name, tuple[IPAddress, ...]]:
    """Addresses by name.

    Raises:
        UserError: one of them is wrong.
    """
    found: dict[Name, tuple[IPAddress, ...]] = {}
    for text in texts:
        name, _, addresses = text.partition("=")
        known = parse_own_name(name)
        if known in found:
            msg = f"two records of {known}: give it all its addresses in one"
            raise UserError(msg)
        found[known] = _addresses(addresses.split(","))
    return found


def parse_own_name(text: str) -> Name:
    """A name, or ``*.`` and one.

    Raises:
        UserError: it is neither.
    """
    name = text.strip().removesuffix(".").lower()
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        msg = f"bad name {text[:_SHOWN]!r}: it is like nas.home, or *.dev.lan for all below dev.lan"
        raise UserError(msg)
    return Name(name)


def add_own(texts: Iterable[str], name: str, addresses: Sequence[str]) -> tuple[str, ...]:
    """Let ``name`` have these addresses too.

    Raises:
        UserError: it is no name, one is no address, or they are too many.
    """
    known, key = parse_own(texts), parse_own_name(name)
    known[key] = _addresses((*map(str, known.get(key, ())), *addresses))
    return _texts(known)


def remove_own(texts: Iterable[str], name: str, addresses: Sequence[str] = ()) -> tuple[str, ...]:
    """Take these addresses from ``name``, or all of them.

    Raises:
        UserError: it has no such record.
    """
    known, key = parse_own(texts), parse_own_name(name)
    have = known.get(key, ())
    gone = _addresses(addresses) if addresses else have
    missing = [ip for ip in gone if ip not in have]
    if missing or not have:
        msg = f"there is no record {' '.join((key, *map(str, missing)))}; see tnet dns record list"
        raise UserError(msg)
    left = tuple(ip for ip in have if ip not in gone)
    return _texts({**known, key: left})


def _texts(known: dict[Name, tuple[IPAddress, ...]]) -> tuple[str, ...]:
    return tuple(f"{name}={','.join(map(str, ips))}" for name, ips in sorted(known.items()) if ips)


def _addresses(texts: Iterable[str]) -> tuple[IPAddress, ...]:
    found = []
    for text in texts:
        try:
            ip = ip_address(text.strip())
        except ValueError:
            ip = None
        if ip is None or "%" in text:
            msg = f"bad address {text[:_SHOWN]!r}: it is like 192.168.1.9 or fd00::9"
            raise UserError(msg)
        found.append(ip)
    unique = tuple(dict.fromkeys(found))
    if len(unique) > MAX_ADDRESSES:
        msg = f"{len(unique)} addresses of one name; it can have {MAX_ADDRESSES}"
        raise UserError(msg)
    return unique
