"""A request, its answer, and what a caller may do."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import msgspec

from tailnet.agent.errors import UserError
from tailnet.agent.localapi.schema.basics import Problem, encode

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request.  ``path`` begins with a slash; ``query`` has the first value of each key."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One whole answer."""

    status: int
    body: bytes = b""
    content_type: str = TEXT


class Access(Enum):
    """What a caller may do, or a route needs; each includes those before."""

    NONE = 0
    READ = 1
    WRITE = 2


MAX_REASON = 200  # characters


def reason_untrusted(header: str) -> str:
    """Why a client wants something: ``X-Tailscale-Reason``, for the log; empty if it says nothing.

    Source: tailscale client/tailscale/apitype/apitype.go, RequestReasonHeader.
    """
    try:
        said = b64decode(header, validate=True).decode()
    except ValueError:
        return ""
    return "".join(c if c.isprintable() else " " for c in said)[:MAX_REASON].strip()


def text(status: int, message: str) -> Response:
    """A plain text answer."""
    return Response(status, message.encode())


def problem(status: int, message: str) -> Response:
    """An answer of ``{"Error": message}``."""
    return Response(status, encode(Problem(error=message)), JSON)


def json(value: object, status: int = 200) -> Response:
    """An answer in JSON, of anything msgspec knows; absent where a struct says so."""
    return Response(status, msgspec.json.encode(value), JSON)


def parse_object(body: bytes) -> dict[str, object]:
    """A JSON object.

    Raises:
        UserError: something else.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError, ValueError):
        msg = "the request's body is not a JSON object"
        raise UserError(msg) from None
