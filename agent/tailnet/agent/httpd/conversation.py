"""One HTTP/1.1 connection as its server sees it, without the connection.

    client   request   = head · body             (Content-Length, chunked, or none)
    server   answer    = head · body             (one for each request, in their order)
             switch    = 101 head, then no HTTP any more

h11 does the grammar (RFC 9112) and the states; what it leaves open is decided here: a request with
two ideas of its own length is refused, and so is one whose target says nothing that can be served.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from tailnet.agent.errors import BadPacket, LocalProtocolError

MAX_QUERY_FIELDS = 100
NO_BODY = frozenset((204, 304))

Headers = Iterable[tuple[str, str]]


class BadRequest(BadPacket):
    """What the client sent cannot be served; ``status`` and the text say why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request.

    ``path`` begins with a slash and is decoded, ``query`` has the first value of each key, the
    names in ``headers`` are in lower case and the values of repeated ones joined by commas.
    ``host`` is the target's if it has one (RFC 9112 section 3.2.2).
    """

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Step(Enum):
    """What comes next where it is neither a head nor a piece of a body."""

    NEED_DATA = auto()
    END = auto()  # of this request
    CLOSED = auto()  # the client has ended, between requests
    PAUSED = auto()  # the next request waits for our answer


class Conversation:
    """Bytes of a client in, requests out; answers in, bytes for the client out."""

    def __init__(self, max_head: int) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head)
        self._head_only = False

    # what the client says

    def receive(self, data: bytes) -> None:
        """Bytes from the client; none at all when it has ended."""
        self._h11.receive_data(data)

    def next_untrusted(self) -> Request | bytes | Step:
        """A head, a piece of its body, or a step.

        Raises:
            BadRequest: the end of this conversation, but for our answer.
        """
        try:
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest(error.error_status_hint, str(error)) from None
        if isinstance(event, h11.Request):
            self._head_only = event.method == b"HEAD"  # also of one that is refused
            return _request_untrusted(event)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return Step.END
        if isinstance(event, h11.ConnectionClosed):
            return Step.CLOSED
        return Step.NEED_DATA if event is h11.NEED_DATA else Step.PAUSED

    @property
    def unread(self) -> bytes:
        """Bytes that belong to no request yet."""
        return bytes(self._h11.trailing_data[0])

    @property
    def owes_body(self) -> bool:
        """Whether the client has yet to send some of this request."""
        return self._h11.their_state is h11.SEND_BODY

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client sends the body only when told to."""
        return self._h11.they_are_waiting_for_100_continue

    # what we say

    @property
    def may_answer(self) -> bool:
        """Whether no answer has begun."""
        return self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def proceed(self) -> bytes:
        """``100 Continue``."""
        return self._send(lambda: _information(100, ()))

    def begin(self, status: int, headers: Headers, *, close: bool = False) -> bytes:
        """The head of an answer; ``close`` makes it the last one."""
        fields = [*headers, ("Connection", "close")] if close else list(headers)
        reason = HTTPStatus(status).phrase
        return self._send(lambda: h11.Response(status_code=status, reason=reason, headers=fields))

    def data(self, piece: bytes) -> bytes:
        """A piece of the answer's body, which ``HEAD`` does not want."""
        return b"" if self._head_only else self._send(lambda: h11.Data(data=piece))

    def end(self) -> bytes:
        """The end of the answer."""
        return self._send(h11.EndOfMessage)

    def answer(self, status: int, headers: Headers, body: bytes, *, close: bool) -> bytes:
        """A whole answer."""
        length = [] if status in NO_BODY else [("Content-Length", str(len(body)))]
        out = self.begin(status, [*headers, *length], close=close)
        return out + (self.data(body) if body and length else b"") + self.end()

    def switch(self, headers: Headers) -> bytes:
        """``101``: what follows in either direction is no HTTP."""
        return self._send(lambda: _information(101, headers))

    def next_request(self) -> bool:
        """Go on after an answer; false if this was the last."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._head_only = False
        return True

    def _send(self, event: Callable[[], h11.Event]) -> bytes:
        try:
            return self._h11.send(event()) or b""
        except h11.LocalProtocolError as error:
            raise LocalProtocolError(str(error)) from None


def http_date(now: datetime) -> str:
    """``Sun, 06 Nov 1994 08:49:37 GMT`` (RFC 9110 section 5.6.7), whatever the locale."""
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[now.weekday()]
    months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
    month = months.split()[now.month - 1]
    return f"{day}, {now.day:02} {month} {now.year:04} {now:%H:%M:%S} GMT"


def _information(status: int, headers: Headers) -> h11.InformationalResponse:
    reason = HTTPStatus(status).phrase
    return h11.InformationalResponse(status_code=status, reason=reason, headers=list(headers))


def _request_untrusted(event: h11.Request) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "transfer-encoding" in headers and (
        "content-length" in headers or event.http_version < b"1.1"
    ):
        raise BadRequest(400, "two lengths in one request")  # RFC 9112 section 6.1: smuggling
    authority, path, query = parse_target_untrusted(event.target)
    host = headers.get("host", "") if authority is None else authority
    return Request(event.method.decode("latin-1"), host, path, query, headers)


def parse_target_untrusted(target: bytes) -> tuple[str | None, str, Mapping[str, str]]:
    """Authority (of an absolute form only), path and query of a request's target.

    Raises:
        BadRequest: neither a path nor an ``http`` URL, or not UTF-8.
    """
    try:
        text = target.decode("ascii")
        if text.startswith("/"):
            authority, (raw_path, _, raw_query) = None, text.partition("?")
        else:
            url = urlsplit(text)
            if url.scheme != "http" or not url.netloc or url.fragment:
                raise BadRequest(400, "the target must be a path")
            authority, raw_path, raw_query = url.netloc, url.path or "/", url.query
        path = unquote(raw_path, errors="strict")
        pairs = parse_qsl(
            raw_query, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError:  # includes UnicodeDecodeError
        raise BadRequest(400, "the target makes no sense") from None
    query: dict[str, str] = {}
    for key, value in pairs:
        query.setdefault(key, value)
    return authority, path, query
