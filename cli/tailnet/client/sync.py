"""The client of programs that wait."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TypeVar

from msgspec import json

from tailnet.agent.localapi.schema.basics import VERSION, decode
from tailnet.client.errors import ClientError, NotRunning, TimedOut
from tailnet.client.questions import Question
from tailnet.client.trouble import find_socket, in_words, not_running, refused
from tailnet.client.wire import SWITCHING_PROTOCOLS, Answer, Nonsense, request

PATIENCE = 65.0  # seconds; the daemon gives up after 60
MAX_LINE = 64 << 20  # bytes of one notification

T = TypeVar("T")


class Client:
    """Asks one daemon.

    Attributes:
        path: of its socket.
        daemon_version: what the last answer said; the version of this client before.
    """

    def __init__(self, path: str | None = None) -> None:
        """``path``: of the daemon's socket; by default where this user's would be."""
        self.path = path or find_socket()
        self.daemon_version = VERSION

    def ask(self, question: Question[T]) -> T:
        """The answer, typed.

        Raises:
            NotRunning: nobody answers.
            Refused: any status but 2xx.
            TimedOut: no answer within the question's patience.
        """
        asked = request(question.method, question.name, question.data, question.headers)
        answer = self._request(asked, question.patience)
        return parse(answer, question.kind)

    def request(
        self,
        method: str,
        name: str,
        body: Mapping[str, object] | int | None = None,
        timeout: float | None = PATIENCE,
    ) -> bytes:
        """One request; the answer's body as it is.

        Raises:
            NotRunning: nobody answers.
            Refused: any status but 2xx.
            TimedOut: no answer within ``timeout`` [s]; ``None`` waits for ever.
        """
        data = b"" if body is None else json.encode(body)
        return self._request(request(method, name, data), timeout)

    def stream(self, method: str, name: str) -> Iterator[bytes]:
        """The pieces of an answer that has no end, as they come.

        Raises:
            NotRunning: nobody answers, or not any more.
            Refused: any status but 2xx.
        """
        with self._connect(PATIENCE) as sock, in_words():
            answer, piece = self._begin(sock, request(method, name))
            sock.settimeout(None)
            yield piece
            while not answer.complete:
                yield answer.feed(sock.recv(1 << 16))

    def dial(self, host: str, port: int) -> tuple[socket.socket, bytes]:
        """A TCP connection made by the daemon, and what has come through it already.

        Raises:
            NotRunning: nobody answers.
            Refused: there is no connection; the text says why.
        """
        headers = {
            "Connection": "upgrade",
            "Upgrade": "ts-dial",
            "Dial-Host": host,
            "Dial-Port": str(port),
            "Dial-Network": "tcp",
        }
        with ExitStack() as closing, in_words():
            sock = closing.enter_context(self._connect(PATIENCE))
            answer, _ = self._begin(sock, request("POST", "dial", headers=headers))
            if answer.status != SWITCHING_PROTOCOLS:
                raise refused(answer.status, b"the daemon does not connect")
            sock.settimeout(None)
            closing.pop_all()
        return sock, answer.rest()

    def watch(self, mask: int) -> "Watch":
        """Begin to follow ``watch-ipn-bus``; when this returns nothing is missed any more.

        Raises:
            NotRunning: nobody answers.
            Refused: any status but 2xx.
        """
        sock = self._connect(PATIENCE)
        with in_words():
            answer, piece = self._begin(sock, request("GET", f"watch-ipn-bus?mask={mask}"))
        return Watch(sock, answer, piece)

    def _request(self, data: bytes, timeout: float | None) -> bytes:
        with self._connect(timeout) as sock, in_words():
            answer, piece = self._begin(sock, data)
            pieces = [piece]
            while not answer.complete:
                pieces.append(answer.feed(sock.recv(1 << 16)))
            return b"".join(pieces)

    def _begin(self, sock: socket.socket, data: bytes) -> tuple[Answer, bytes]:
        """Send a request; its answer with the head, and what of the body came with it."""
        sock.sendall(data)
        answer, piece = Answer(), b""
        while not answer.status:
            piece += answer.feed(sock.recv(1 << 16))
        self.daemon_version = answer.headers.get("tailscale-version", VERSION)
        if answer.status != SWITCHING_PROTOCOLS and not 200 <= answer.status < 300:
            while not answer.complete:
                piece += answer.feed(sock.recv(1 << 16))
            raise refused(answer.status, piece)
        return answer, piece

    def _connect(self, timeout: float | None) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(self.path)
        except OSError as error:
            sock.close()
            raise not_running(self.path, error) from None
        return sock


class Watch:
    """The stream of ``watch-ipn-bus``."""

    def __init__(self, sock: socket.socket, answer: Answer, begun: bytes) -> None:
        self._sock = sock
        self._answer = answer
        self._buffer = bytearray(begun)

    def next_line(self, timeout: float | None) -> bytes:
        """The next line, without its end.

        Raises:
            TimedOut: none came within ``timeout`` [s]; ``None`` waits for ever.
            NotRunning: the stream ended.
        """
        self._sock.settimeout(timeout)
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                data = self._sock.recv(1 << 16)
                self._buffer += self._answer.feed(data)
                ended = self._answer.complete
            except TimeoutError:
                msg = "nothing came"
                raise TimedOut(msg) from None
            except (OSError, Nonsense):
                ended = True
            if (ended and b"\n" not in self._buffer) or len(self._buffer) > MAX_LINE:
                msg = "tailnetd ended the watch; is it still running?"
                raise NotRunning(msg)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def close(self) -> None:
        """Stop watching."""
        self._sock.close()


def parse(answer: bytes, kind: type[T]) -> T:
    """A body as its type.

    Raises:
        ClientError: it is something else.
    """
    if kind is type(None):
        return None
    try:
        return decode(answer, kind)
    except ValueError as error:
        raise ClientError(str(error)) from None
