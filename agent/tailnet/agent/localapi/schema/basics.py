"""What all answers of the LocalAPI have in common: names, versions, refusals, coding."""

from datetime import datetime, timezone
from typing import TypeVar

from msgspec import DecodeError, Struct, field, json

from tailnet.agent._version import __version__

VERSION = __version__
BASE = "/localapi/v0/"
HOST = "local-tailscaled.sock"  # the only Host a client may send
ZERO_TIME = datetime(1, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - Go's zero time: "never"

T = TypeVar("T")


class Problem(Struct, frozen=True):
    """``{"Error": …}``: a refusal in JSON; empty is "fine"."""

    error: str = field(default="", name="Error")


class Advice(Struct, frozen=True):
    """``{"Warning": …}``: what to do about this machine; empty is "nothing"."""

    warning: str = field(default="", name="Warning")


def encode(message: Struct) -> bytes:
    """Compact JSON."""
    return json.encode(message)


def decode(data: bytes, kind: type[T]) -> T:
    """Parse what the daemon sent; unknown fields are ignored.

    Raises:
        ValueError: it is not what was expected.
    """
    try:
        return json.decode(data, type=kind)
    except DecodeError as error:
        msg = f"the daemon's answer makes no sense: {error}"
        raise ValueError(msg) from None
