"""A method of a route, as data."""

from collections.abc import Mapping
from typing import Any, NamedTuple

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
LINES = "application/json-lines"
PCAPNG = "application/x-pcapng"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
Tree = dict[str, Any]


class Query(NamedTuple):
    """A parameter of a URL; ``kind`` is ``string``, ``integer``, ``boolean``, or the choices."""

    name: str
    kind: str | tuple[str, ...]
    about: str
    needed: bool = False
    most: int | None = None


class Operation(NamedTuple):
    """A method of a route.

    Attributes:
        about: one line.
        answer: the type of a good answer; ``None``: it has no body.
        status: of a good answer.
        query: parameters.
        body: the type of what is sent; ``None``: nothing is.
        refuses: other statuses that are normal here.
        media: the good answer's.
        or_text: it may be a text, too.
    """

    about: str
    answer: Any = None
    status: int = 200
    query: tuple[Query, ...] = ()
    body: Any = None
    refuses: tuple[int, ...] = ()
    media: str = JSON
    or_text: bool = False


NO_CONTENT = 204

Routes = Mapping[str, Mapping[str, Operation]]
"""By name and method."""
