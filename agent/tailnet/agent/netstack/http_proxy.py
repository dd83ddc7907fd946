"""An HTTP proxy, the server's side (RFC 9110 §9.3.6, RFC 9112 §3.2): CONNECT and absolute form.

A request in absolute form goes to its server in origin form with ``Connection: close``, so a
connection carries one request: there is nothing to parse after the head.
Source: tailscale net/proxymux, cmd/tailscaled/proxy.go.
"""

import re
from dataclasses import dataclass

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.interface import Associate, Connect, DialError, Failure

MAX_HEAD = 64 << 10  # bytes

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE = re.compile(rb"[!-~]+")
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#\s]+))(?::(\d{1,5}))?")
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"upgrade")
)


class TooLarge(BadPacket):
    """The head does not end."""


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """What the client wants.  ``head`` goes to the server; it is empty for CONNECT."""

    host: str
    port: int
    head: bytes


def parse_authority(text: str, default: int | None) -> tuple[str, int]:
    """``host:port``, ``[IPv6]:port``; without a port the default if there is one.

    Raises:
        BadPacket: anything else.
    """
    found = _AUTHORITY.fullmatch(text)
    port = int(found[3]) if found and found[3] else default
    if found is None or port is None or not 0 < port <= 0xFFFF or not text.isascii():
        msg = "not host:port"
        raise BadPacket(msg)
    return found[1] or found[2], port


def parse_request_untrusted(data: bytes) -> tuple[ProxyRequest, bytes] | None:
    """A request and the bytes behind its head; ``None`` while it is incomplete.

    Raises:
        BadPacket: not a request for a proxy.
    """
    whole, end, rest = data.partition(b"\r\n\r\n")
    if len(whole) > MAX_HEAD:
        msg = "the head is too long"
        raise TooLarge(msg)
    if not end:
        return None
    first, *lines = whole.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or words[2][:7] != b"HTTP/1.":
        msg = "not an HTTP/1 request"
        raise BadPacket(msg)
    method, target, version = words
    if not _VISIBLE.fullmatch(target):
        msg = "not a URL"
        raise BadPacket(msg)
    fields = _fields(lines)
    if method == b"CONNECT":
        return ProxyRequest(*parse_authority(target.decode(), None), b""), rest
    scheme, slashes, url = target.decode().partition("://")
    if scheme.lower() != "http" or not slashes:
        msg = "this is a proxy: it takes CONNECT and http:// URLs"
        raise BadPacket(msg)
    authority = re.split("[/?#]", url, maxsplit=1)[0]
    host, port = parse_authority(authority, 80)
    path = url[len(authority) :].partition("#")[0]
    path = path if path.startswith("/") else "/" + path
    head = [b"%b %b %b" % (method, path.encode(), version), b"Host: " + authority.encode()]
    dropped = _HOP_BY_HOP | {b"host"} | _named(fields)
    head += [line for name, line in fields if name not in dropped]
    head += [b"Connection: close", b"", b""]
    return ProxyRequest(host, port, b"\r\n".join(head)), rest


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields = []
    for line in lines:
        name, colon, _ = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or b"\r" in line or b"\n" in line:
            msg = "a damaged header field"
            raise BadPacket(msg)
        fields.append((name.lower(), line))
    return fields


def _named(fields: list[tuple[bytes, bytes]]) -> set[bytes]:
    """Fields that ``Connection`` declares to be for this hop only."""
    values = [line.partition(b":")[2] for name, line in fields if name == b"connection"]
    return {token.strip().lower() for value in values for token in value.split(b",")}


class HttpProxy:
    """One connection, until bytes flow."""

    def __init__(self) -> None:
        self.early = b""
        self.closed = False
        self._request: ProxyRequest | None = None
        self._out: list[bytes] = []
        self._event: Connect | None = None

    def handle_data(self, data: bytes) -> None:
        """Bytes of the client; after its request they are kept in ``early``."""
        self.early += data
        if self.closed or self._request is not None:
            return
        try:
            found = parse_request_untrusted(self.early)
        except TooLarge as error:
            self._refuse("431 Request Header Fields Too Large", str(error))
            return
        except BadPacket as error:
            self._refuse("400 Bad Request", str(error))
            return
        if found is not None:
            self._request, rest = found
            self.early = self._request.head + rest
            self._event = Connect(self._request.host, self._request.port)

    def handle_connected(self, bound: AddrPort) -> None:
        """Tell the client, if it asked for a tunnel; then bytes flow."""
        if self._request is not None and not self._request.head:
            self._out.append(b"HTTP/1.1 200 Connection established\r\n\r\n")

    def handle_failed(self, error: DialError) -> None:
        """Tell the client why not."""
        late = error.failure is Failure.TIMED_OUT
        status = "504 Gateway Timeout" if late else "502 Bad Gateway"
        self._refuse(status, str(error), f"Tailscale-Connect-Error: {error}\r\n")

    def _refuse(self, status: str, text: str, field: str = "") -> None:
        body = f"{text}\n".encode()
        self.closed = True
        self._out.append(
            f"HTTP/1.1 {status}\r\n{field}Content-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )

    def poll_transmit(self) -> bytes | None:
        """Bytes for the client."""
        return self._out.pop(0) if self._out else None

    def poll_event(self) -> Connect | Associate | None:
        """What the client wants."""
        event, self._event = self._event, None
        return event
