"""HTTP/1.1 as a client of one request per connection needs it: bytes in, bytes out.

A library would cost more time than a whole command of ``tnet``.

Source: RFC 9112.
"""

from collections.abc import Mapping

from tailnet.agent.localapi.schema.basics import BASE, HOST

MAX_HEAD = 64 << 10  # bytes of status line and headers
MAX_HEADERS = 100
SWITCHING_PROTOCOLS = 101


class Nonsense(Exception):
    """That is no answer of a daemon."""


def request(
    method: str, name: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """A whole request below the LocalAPI's path; the connection ends with its answer."""
    lines = [f"{method} {BASE}{name} HTTP/1.1", f"Host: {HOST}"]
    given = {"Connection": "close", **(headers or {}), "Content-Length": str(len(body))}
    lines += [f"{key}: {value}" for key, value in given.items()]
    return "\r\n".join((*lines, "", "")).encode() + body


class Answer:
    """Parses one answer as it comes.

    Attributes:
        status: 0 until the head is there.
        headers: names in lower case.
        complete: nothing more belongs to it.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._buffer = bytearray()
        self._left = 0  # bytes of the body, or of its chunk with the line end after it
        self._chunked = False

    def feed(self, data: bytes) -> bytes:
        """What the body gains by more bytes; none is the end of the connection.

        Raises:
            Nonsense: it is no HTTP.
            ConnectionError: it ended before its end.
        """
        if not data and not self.complete:
            raise ConnectionResetError
        self._buffer += data
        if not self.status and not self._head():
            return b""
        return self._chunks() if self._chunked else self._plain()

    def rest(self) -> bytes:
        """What came behind the head of an answer that switches protocols."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                msg = "its head is too long"
                raise Nonsense(msg)
            return False
        first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        version, _, rest = first.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit() or len(lines) > MAX_HEADERS:
            msg = "that is no tailnetd"
            raise Nonsense(msg)
        self.status = int(rest[:3])
        for line in lines:
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()
        self._chunked = self.headers.get("transfer-encoding") == "chunked"
        length = self.headers.get("content-length", "0")
        self._left = int(length) if length.isdecimal() and not self._chunked else 0
        return True

    def _plain(self) -> bytes:
        if self.status == SWITCHING_PROTOCOLS:
            self.complete = True
            return b""
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        self.complete = not self._left
        return piece

    def _chunks(self) -> bytes:
        out = bytearray()
        while not self.complete:
            if not self._left and not self._size_line():
                break
            if len(self._buffer) < self._left or self.complete:
                break
            out += self._buffer[: self._left - 2]
            del self._buffer[: self._left]
            self._left = 0
        return bytes(out)

    def _size_line(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                msg = "a line is too long"
                raise Nonsense(msg)
            return False
        text = bytes(self._buffer[:end]).partition(b";")[0]
        del self._buffer[: end + 2]
        try:
            size = int(text, 16) if text.isalnum() else -1
        except ValueError:
            size = -1
        if size < 0:
            msg = "bad chunk"
            raise Nonsense(msg)
        self.complete = size == 0
        self._left = size + 2
        return True
