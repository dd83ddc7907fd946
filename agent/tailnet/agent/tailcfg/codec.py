"""JSON in the control protocol's dialect, over msgspec.

Go's ``encoding/json`` is on the other side: names are exact, ``null`` means absent, integers go up
to 64 bits, zero times mean unset, and unknown fields are never an error.
"""

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, TypeVar

import msgspec

from tailnet.agent.addr import AddrPort, IPAddress, IPNetwork, parse_prefix
from tailnet.agent.errors import BadPacket, TailnetError
from tailnet.agent.keys import PublicKey

T = TypeVar("T")

NULL = msgspec.Raw(b"null")
ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)  # Go's zero time: "unset"


class Struct(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, rename="pascal"):
    """Base of every message: immutable; ``some_field`` is ``SomeField`` on the wire.

    Names that Go writes otherwise (``ID``, ``DERPMap``) are given by ``msgspec.field(name=…)``.
    Arrays and maps are ``… | None``, since Go writes ``null`` for empty ones; scalars are plain.
    """


def enc_hook(value: object) -> object:
    """Keys and addresses as their text forms."""
    return str(value)


def dec_hook(kind: type, value: Any) -> Any:
    """Text forms to typed keys, addresses and prefixes."""
    if isinstance(value, str):
        if issubclass(kind, PublicKey):
            return kind.parse(value)
        if issubclass(kind, AddrPort):
            return AddrPort.parse(value)
    msg = "wrong JSON type"
    raise BadPacket(msg)


def encode(message: object) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(message, enc_hook=enc_hook)


def decode_untrusted(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Parse JSON into ``kind``.

    A scalar that is ``null`` counts as absent (Go writes that for nil pointers); such messages
    take a slower road.

    Raises:
        BadPacket: not JSON, or a field has the wrong type; the text says where, not what.
    """
    try:
        try:
            return msgspec.json.decode(data, type=kind, dec_hook=dec_hook)
        except (msgspec.ValidationError, BadPacket):  # the second: a null where a key should be
            tree = _without_nulls(msgspec.json.decode(data))
            return msgspec.convert(tree, type=kind, dec_hook=dec_hook, str_keys=True)
    except (msgspec.DecodeError, TailnetError, RecursionError, ValueError) as error:
        msg = f"bad JSON: {error}"
        raise BadPacket(msg) from None


def split_object_untrusted(data: bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object, each still JSON.  Of members with one name the last counts.

    Raises:
        BadPacket: not JSON, or not an object.
    """
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        msg = f"bad JSON: {error}"
        raise BadPacket(msg) from None


def split_list_untrusted(data: bytes | msgspec.Raw) -> list[msgspec.Raw] | None:
    """The entries of a JSON array, each still JSON, without nulls; ``None`` if it is no array.

    Raises:
        BadPacket: not JSON.
    """
    try:
        return [one for one in msgspec.json.decode(data, type=list[msgspec.Raw]) if one != NULL]
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        msg = f"bad JSON: {error}"
        raise BadPacket(msg) from None


NULL_MEANS_SOMETHING = frozenset({"CapMap", "PacketFilters", "DisplayMessages", "Routes"})


def _without_nulls(tree: Any) -> Any:
    match tree:
        case dict():
            return {
                key: value if key in NULL_MEANS_SOMETHING else _without_nulls(value)
                for key, value in tree.items()
                if value is not None
            }
        case list():
            return [_without_nulls(item) for item in tree if item is not None]
        case _:
            return tree


def prefixes(texts: tuple[str, ...] | None) -> tuple[IPNetwork, ...]:
    """Prefixes of a peer or rule; those that do not parse are left out."""
    if not texts:
        return ()
    try:
        return tuple([parse_prefix(text) for text in texts])  # nearly always
    except BadPacket:
        return tuple(net for net in map(_prefix_or_none, texts) if net is not None)


def _prefix_or_none(text: str) -> IPNetwork | None:
    try:
        return parse_prefix(text)
    except BadPacket:
        return None


def instant(value: datetime | None) -> datetime | None:
    """A time field: absent and Go's zero time are ``None``; a time without a zone is UTC."""
    if value is None or value.year == 1:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def ip_or_none(text: str | None) -> IPAddress | None:
    """An address field: empty, absent and malformed all mean unset."""
    try:
        return ip_address(text) if text else None
    except ValueError:
        return None
