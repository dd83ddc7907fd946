"""The few HTTP requests a relay answers, as bytes in and out.

Source: tailscale derp/derpserver/handler.go (ServeHTTP, ProbeHandler, ServeNoContent).
"""

import re
from dataclasses import dataclass

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePublic

MAX_HEAD = 1 << 14  # bytes of a request head
END = b"\r\n\r\n"
CHALLENGE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
NO_CACHE = "Cache-Control: no-cache, no-store, must-revalidate, no-transform, max-age=0"


@dataclass(frozen=True)
class Request:
    """A request head; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def wants_derp(self) -> bool:
        """True if the connection is to become a DERP stream."""
        return self.path == "/derp" and self.headers.get("upgrade", "").lower() == "derp"

    @property
    def fast_start(self) -> bool:
        """True if the client knows our key already and expects no response head."""
        return self.headers.get("derp-fast-start") == "1"


def parse_request_untrusted(head: bytes) -> Request:
    """A request head without its empty line.

    Raises:
        BadPacket: not HTTP/1.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        msg = "not an HTTP request"
        raise BadPacket(msg)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Request(words[0], words[1].partition("?")[0], headers)


def upgrade_response(key: NodePublic) -> bytes:
    """The last HTTP of a connection that becomes a DERP stream."""
    return _head(
        "101 Switching Protocols",
        "Upgrade: DERP",
        "Connection: Upgrade",
        "Derp-Version: 2",
        f"Derp-Public-Key: {key.raw.hex()}",
    )


def respond(request: Request) -> bytes:
    """The response to anything but an upgrade."""
    match request.path:
        case "/derp":
            return _text("426 Upgrade Required", "DERP requires connection upgrade")
        case "/derp/probe" | "/derp/latency-check":
            if request.method not in {"GET", "HEAD"}:
                return _text("405 Method Not Allowed", "bogus probe method")
            return _head("200 OK", "Access-Control-Allow-Origin: *", "Content-Length: 0")
        case "/generate_204":
            challenge = request.headers.get("x-tailscale-challenge", "")
            answer = [f"X-Tailscale-Response: response {challenge}"]
            shown = answer if CHALLENGE.fullmatch(challenge) else []
            return _head("204 No Content", NO_CACHE, *shown)
        case "/":
            return _text("200 OK", "This is a DERP relay of a test lab.")
        case "/robots.txt":
            return _text("200 OK", "User-agent: *\nDisallow: /")
        case _:
            return _text("404 Not Found", "not found")


def _text(status: str, text: str) -> bytes:
    body = f"{text}\n".encode()
    kind = "Content-Type: text/plain; charset=utf-8"
    return _head(status, kind, f"Content-Length: {len(body)}") + body


def _head(status: str, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers)).encode() + END
