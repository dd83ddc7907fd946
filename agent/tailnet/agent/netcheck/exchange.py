"""One HTTP request and the head of its answer, for servers that are not trusted."""

from collections.abc import Mapping
from typing import NamedTuple

import h11

from tailnet.agent.errors import BadPacket

MAX_HEAD = 8 << 10  # bytes of an answer that are read


class Answer(NamedTuple):
    """Status, and headers by their name in lower case."""

    status: int
    headers: Mapping[str, str]


def encode_get(host: str, target: str, headers: Mapping[str, str] = {}) -> bytes:
    """``GET``, after which the server may hang up.

    Raises:
        BadPacket: a name that cannot stand in a request.
    """
    fields = [("Host", host), ("Connection", "close"), *headers.items()]
    connection = h11.Connection(h11.CLIENT)
    try:
        request = h11.Request(method="GET", target=target, headers=fields)
        return connection.send(request) or b""
    except (h11.LocalProtocolError, UnicodeEncodeError):
        msg = "a relay's name cannot be asked for"
        raise BadPacket(msg) from None


class AnswerReader:
    """Takes the answer's head however it was chunked; its body is left unread."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
        self._connection.send(h11.EndOfMessage())

    def feed_untrusted(self, data: bytes) -> Answer | None:
        """The head once it is complete; empty ``data`` is the end of the stream.

        Raises:
            BadPacket: not HTTP, too long, or cut short.
        """
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            msg = f"no HTTP: {error}"
            raise BadPacket(msg) from None
        if not isinstance(event, h11.Response):
            return None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        return Answer(event.status_code, headers)
