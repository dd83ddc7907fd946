"""The site on a socket of this machine: the standard library's server, one thread a connection."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from msgspec import json

from tailnet.cli.web.routes import HEADERS, MAX_BODY, Answer, Site, text

EVERY = 1.0  # seconds between two looks
MAX_STREAMS = 16  # pages that are open at a time


class WebServer(ThreadingHTTPServer):
    """Serves one site until it is closed."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Handler)
        self.site: Site | None = None
        self.ending = threading.Event()
        self.streams = threading.BoundedSemaphore(MAX_STREAMS)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as inherited
        """A browser that goes away is no error; what else is there is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server_version = "tnet"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout: ClassVar[float | None] = 30.0  # seconds that a browser may take for a request

    @property
    def _web(self) -> WebServer:
        if not isinstance(self.server, WebServer):
            raise TypeError
        return self.server

    def do_GET(self) -> None:
        """The page, an asset, or the events."""
        site = self._web.site
        if site is None or not site.is_ours(self.headers):  # type: ignore[arg-type]
            self._answer(text(403, "this page is for this machine\n"))
        elif self.path == "/events":
            self._events(site)
        else:
            self._answer(site.get(self.path))

    def do_POST(self) -> None:
        """An action."""
        site, length = self._web.site, self.headers.get("Content-Length", "")
        if site is None or not site.is_ours(self.headers):  # type: ignore[arg-type]
            self._answer(text(403, "this page is for this machine\n"), close=True)
        elif not length.isdecimal() or int(length) > MAX_BODY:
            self._answer(text(413, "too long\n"), close=True)
        else:
            body = self.rfile.read(int(length))
            self._answer(site.post(self.path, self.headers, body))  # type: ignore[arg-type]

    def _answer(self, answer: Answer, *, close: bool = False) -> None:
        self.send_response(answer.status)
        self._send_headers(answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if close:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(answer.body)

    def _events(self, site: Site) -> None:
        """The changing part, whenever it changed, until the browser or we have enough."""
        if not self._web.streams.acquire(blocking=False):
            self._answer(text(503, "too many pages are open\n"))
            return
        try:
            self.send_response(200)
            self._send_headers("text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            last = ""
            while not self._web.ending.is_set():
                fragment = site.fragment()
                line = (
                    f"data: {json.encode(fragment).decode()}\n\n" if fragment != last else ":\n\n"
                )
                last = fragment
                self.wfile.write(line.encode())
                self.wfile.flush()
                self._web.ending.wait(EVERY)
        except OSError:
            return
        finally:
            self._web.streams.release()

    def _send_headers(self, content_type: str) -> None:
        self.send_header("Content-Type", content_type)
        for name, value in HEADERS.items():
            self.send_header(name, value)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - as inherited
        """Nobody wants to read that."""
