"""A small HTTP client for the LocalAPI's unix socket.

HTTP/1.1 with one request per connection: a library would cost more time than a whole command.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

from msgspec import DecodeError, json

from tailnet.agent.localapi.schema import BASE, HOST, VERSION, Status, decode
from tailnet.cli.errors import Failure, warn
from tailnet.cli.settings import expand, needs_current
from tailnet.cli.text import clean

ROOT_SOCKET = "/run/tailnetd/tailnetd.sock"
TIMEOUT = 65.0  # seconds; the daemon gives up after 60
SWITCHING_PROTOCOLS = 101
MAX_HEAD = 64 << 10  # bytes of status line and headers
MAX_LINE = 64 << 20  # bytes of one notification

T = TypeVar("T")


class NotRunning(Failure):
    """Nobody answers on the socket."""


class TimedOut(Failure):
    """The caller's own patience ended."""


class Refused(Failure):
    """The daemon answered with an error; ``message`` is its text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def is_root() -> bool:
    """Whether this user may do everything anyway."""
    return os.geteuid() == 0


def find_socket() -> str:
    """The socket of this user's daemon, or of root's, whichever is there."""
    if is_root():
        return ROOT_SOCKET
    own = f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/tailnetd.sock"
    return own if os.path.exists(own) else ROOT_SOCKET


class LocalClient:
    """Asks one daemon."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._warned = False

    def get(self, name: str, kind: type[T]) -> T:
        """``GET`` a typed answer."""
        try:
            return decode(self.request("GET", name), kind)
        except ValueError as error:
            raise Failure(str(error)) from None

    def status(self, *, peers: bool = True) -> Status:
        """The daemon's state; ``peers`` false is quicker."""
        return self.get("status" if peers else "status?peers=false", Status)

    def prefs(self) -> dict[str, object]:
        """The current prefs, under Go's names."""
        return self.get("prefs", dict[str, object])

    def edit_prefs(self, changes: Mapping[str, object]) -> None:
        """Change these prefs and no others."""
        changes = expand(changes, self.prefs() if needs_current(changes) else {})
        masks = {f"{name}Set": True for name in changes}
        self.request("PATCH", "prefs", {**changes, **masks})

    def request(
        self,
        method: str,
        name: str,
        body: Mapping[str, object] | None = None,
        timeout: float | None = TIMEOUT,
    ) -> bytes:
        """One request; returns the answer's body.

        Raises:
            NotRunning: nobody answers.
            Refused: any status but 2xx.
            TimedOut: no answer within ``timeout`` [s]; ``None`` waits for ever.
        """
        with self._connect(timeout) as sock, _in_words():
            return b"".join(self._exchange(sock, method, name, body))

    def stream(self, method: str, name: str) -> Iterator[bytes]:
        """The pieces of an answer that has no end, as they come.

        Raises:
            NotRunning: nobody answers, or not any more.
            Refused: any status but 2xx.
        """
        with self._connect(TIMEOUT) as sock, _in_words():
            pieces = self._exchange(sock, method, name, None)
            sock.settimeout(None)
            yield from pieces

    def dial(self, host: str, port: int) -> tuple[socket.socket, bytes]:
        """A TCP connection made by the daemon, and what has come through it already.

        Raises:
            NotRunning: nobody answers.
            Refused: there is no connection; the text says why.
        """
        sock = self._connect(TIMEOUT)
        head = (
            f"POST {BASE}dial HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\n"
            f"Upgrade: ts-dial\r\nDial-Host: {host}\r\nDial-Port: {port}\r\n"
            "Dial-Network: tcp\r\nContent-Length: 0\r\n\r\n"
        )
        with ExitStack() as closing, _in_words():
            closing.enter_context(sock)
            sock.sendall(head.encode())
            reader = _Reader(sock)
            status, headers = reader.head()
            self._check_version(headers)
            if status != SWITCHING_PROTOCOLS:
                raise self._refused(status, b"".join(reader.body(headers)))
            sock.settimeout(None)
            closing.pop_all()
        return sock, reader.rest()

    def watch(self, mask: int) -> "Watch":
        """Begin to follow ``watch-ipn-bus``; when this returns nothing is missed any more."""
        sock = self._connect(TIMEOUT)
        with _in_words():
            return Watch(sock, self._exchange(sock, "GET", f"watch-ipn-bus?mask={mask}", None))

    def _connect(self, timeout: float | None) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(self._path)
        except FileNotFoundError:
            sock.close()
            raise self._not_running(there=False) from None
        except ConnectionRefusedError:
            sock.close()
            raise self._not_running(there=True) from None
        except OSError as error:
            sock.close()
            msg = f"cannot reach tailnetd at {self._path}: {error.strerror or error}"
            raise NotRunning(msg) from None
        return sock

    def _not_running(self, *, there: bool) -> NotRunning:
        where = f"{'nobody answers' if there else 'no socket'} at {self._path}"
        return NotRunning(f"tailnetd is not running ({where}); start it with: sudo tailnetd --tun")

    def _exchange(
        self, sock: socket.socket, method: str, name: str, body: Mapping[str, object] | None
    ) -> Iterator[bytes]:
        """Send the request, return the pieces of the answer's body."""
        data = b"" if body is None else json.encode(body)
        head = (
            f"{method} {BASE}{name} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        sock.sendall(head.encode() + data)
        reader = _Reader(sock)
        status, headers = reader.head()
        self._check_version(headers)
        pieces = reader.body(headers)
        if not 200 <= status < 300:
            raise self._refused(status, b"".join(pieces))
        return pieces

    def _check_version(self, headers: dict[str, str]) -> None:
        theirs = headers.get("tailscale-version", VERSION)
        if theirs != VERSION and not self._warned:
            self._warned = True
            warn(f'Warning: client version "{VERSION}" != tailnetd version "{clean(theirs)}"')

    def _refused(self, status: int, body: bytes) -> Refused:
        text = body.decode(errors="replace").strip()
        with suppress(DecodeError):
            text = json.decode(body, type=dict[str, str]).get("Error", text)
        message = clean(text) or f"tailnetd answered with status {status}"
        if status == 403 and not is_root():
            message += "\nUse 'sudo tnet …', or run 'sudo tnet set --operator=$USER' once."
        return Refused(status, message)


@contextmanager
def _in_words() -> Iterator[None]:
    """What goes wrong with a connection, said to a person."""
    try:
        yield
    except TimeoutError:
        msg = "tailnetd does not answer"
        raise TimedOut(msg) from None
    except OSError as error:
        msg = f"no sense in what tailnetd answers: {error.strerror or error}"
        raise NotRunning(msg) from None


class Watch:
    """The stream of ``watch-ipn-bus``."""

    def __init__(self, sock: socket.socket, pieces: Iterator[bytes]) -> None:
        self._sock = sock
        self._pieces = pieces
        self._buffer = bytearray()

    def next_line(self, timeout: float | None) -> bytes:
        """The next line, without its end.

        Raises:
            TimedOut: none came within ``timeout`` [s]; ``None`` waits for ever.
            NotRunning: the stream ended.
        """
        self._sock.settimeout(timeout)
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                piece = next(self._pieces, b"")
            except TimeoutError:
                msg = "nothing came"
                raise TimedOut(msg) from None
            except OSError:
                piece = b""
            if not piece or len(self._buffer) > MAX_LINE:
                msg = "tailnetd ended the watch; is it still running?"
                raise NotRunning(msg)
            self._buffer += piece
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def close(self) -> None:
        """Stop watching."""
        self._sock.close()


class _Reader:
    """Parses one HTTP response.

    The socket's timeout is that of each read; a stalled read can be tried again.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def _more(self) -> None:
        data = self._sock.recv(1 << 16)
        if not data:
            msg = "it ended early"
            raise ConnectionError(msg)
        self._buffer += data

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_HEAD:
                msg = "a line is too long"
                raise ConnectionError(msg)
            self._more()
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return line

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers, names in lower case."""
        version, _, rest = self._line().partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            msg = "that is no tailnetd"
            raise ConnectionError(msg)
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
            if len(headers) > 100:
                msg = "too many headers"
                raise ConnectionError(msg)
        return int(rest[:3]), headers

    def body(self, headers: dict[str, str]) -> Iterator[bytes]:
        """Pieces as they come."""
        if headers.get("transfer-encoding") == "chunked":
            return _Chunks(self)
        length = headers.get("content-length", "0")
        return iter((self.exactly(int(length) if length.isdecimal() else 0),))

    def exactly(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        while len(self._buffer) < size:
            self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def rest(self) -> bytes:
        """What was read too much."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def size_line(self) -> int:
        """The size of the next chunk."""
        text = self._line().partition(b";")[0]
        try:
            return int(text, 16)
        except ValueError:
            msg = "bad chunk"
            raise ConnectionError(msg) from None


class _Chunks(Iterator[bytes]):
    """A chunked body; survives a timeout in the middle of a chunk."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._size: int | None = None

    def __next__(self) -> bytes:
        if self._size is None:
            self._size = self._reader.size_line()
        if self._size == 0:
            raise StopIteration
        data = self._reader.exactly(self._size + 2)
        self._size = None
        return data[:-2]
