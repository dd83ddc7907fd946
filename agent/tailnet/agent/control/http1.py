"""The little HTTP/1.1 that comes before the Noise connection: ``GET /key`` and the upgrade.

Source: RFC 9112; tailscale control/controlhttp/client.go.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from tailnet.agent.errors import BadPacket, RemoteProtocolError
from tailnet.agent.noise.control import (
    HEADER_LEN,
    RESPONSE_LEN,
    TYPE_ERROR,
    TYPE_RESPONSE,
    Initiator,
    TransportKeys,
)

UPGRADE = "tailscale-control-protocol"
HANDSHAKE_HEADER = "X-Tailscale-Handshake"
MAX_HEAD = 32 << 10  # bytes
MAX_BODY = 64 << 10  # bytes; direct.go loadServerPubKeys
MAX_ERROR_FRAME = 1024  # bytes of text


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and fields; names are lower case."""

    status: int
    headers: Mapping[str, str]


def get_request(path: str, host: str) -> bytes:
    """A GET that ends the connection."""
    return request("GET", path, host, b"")


def request(method: str, target: str, host: str, body: bytes, *, proxy_login: str = "") -> bytes:
    """A request that ends the connection; a proxy wants a whole URL for ``target``."""
    head = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: tailnet",
        "Accept: application/json",
        "Connection: close",
    ]
    if proxy_login:
        head.append(f"Proxy-Authorization: Basic {proxy_login}")
    if body or method == "POST":
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


def upgrade_request(host: str, initiation: bytes) -> bytes:
    """The request that turns into a Noise connection; it must be a POST."""
    return (
        f"POST /ts2021 HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tailnet\r\n"
        f"Upgrade: {UPGRADE}\r\nConnection: upgrade\r\n"
        f"{HANDSHAKE_HEADER}: {base64.b64encode(initiation).decode()}\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def split_head_untrusted(data: bytes) -> tuple[ResponseHead, bytes] | None:
    """Head and the bytes after it; ``None`` while it is incomplete.

    Raises:
        BadPacket: not HTTP/1, or too long a head.
    """
    if not b"HTTP/1.".startswith(data[:7]):
        msg = "it does not speak HTTP"
        raise BadPacket(msg)
    head, end, rest = data.partition(b"\r\n\r\n")
    if len(head) > MAX_HEAD:
        msg = "the head of its answer is too long"
        raise BadPacket(msg)
    if not end:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if len(version) != 8 or not (status[:3].isascii() and status[:3].isdigit()):
        msg = "it does not speak HTTP"
        raise BadPacket(msg)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return ResponseHead(int(status[:3]), headers), rest


def read_body_untrusted(head: ResponseHead, data: bytes, *, eof: bool) -> bytes | None:
    """The body in ``data``, which follows ``head``; ``None`` while it is incomplete.

    Raises:
        BadPacket: bad framing, cut off, or longer than :data:`MAX_BODY`.
    """
    body: bytes | None
    if head.headers.get("transfer-encoding", "").lower() == "chunked":
        body = _unchunk_untrusted(data)
    elif (length := head.headers.get("content-length")) is not None:
        if not (length.isascii() and length.isdigit() and len(length) < 10):
            msg = "bad Content-Length"
            raise BadPacket(msg)
        body = data[: int(length)] if len(data) >= int(length) else None
    else:
        body = data if eof else None
    if len(data if body is None else body) > MAX_BODY:
        msg = "its answer is too long"
        raise BadPacket(msg)
    if body is None and eof:
        msg = "its answer was cut off"
        raise BadPacket(msg)
    return body


def _unchunk_untrusted(data: bytes) -> bytes | None:
    out = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        try:
            size = int(line.partition(b";")[0][:9], 16)
        except ValueError:
            size = -1
        if size < 0:
            msg = "bad chunked encoding"
            raise BadPacket(msg)
        if size == 0:
            return out
        if len(data) < size + 2:
            return None
        out += data[:size]
        data = data[size + 2 :]


class Upgrade:
    """One attempt to open a Noise connection: send :attr:`request`, feed what comes back.

    Bytes after the 101 belong to the Noise connection and may come in one piece with it.
    """

    def __init__(self, host: str, initiator: Initiator) -> None:
        self.request = upgrade_request(host, initiator.initiation)
        self._initiator = initiator
        self._buffer = b""
        self._switched = False

    def receive_untrusted(self, data: bytes) -> tuple[TransportKeys, bytes] | None:
        """Keys, and the first bytes of records; ``None`` while more is needed.

        Raises:
            BadPacket: the handshake failed.
            RemoteProtocolError: the server does not want to switch; the text says why.
        """
        self._buffer += data
        if not self._switched:
            if (split := split_head_untrusted(self._buffer)) is None:
                return None
            head, self._buffer = split
            if head.status != 101:
                msg = f"POST /ts2021 answered {head.status}"
                raise RemoteProtocolError(msg)
            if head.headers.get("upgrade", "").lower() != UPGRADE:
                msg = "POST /ts2021 switched to another protocol"
                raise RemoteProtocolError(msg)
            self._switched = True
        return self._read_noise_untrusted()

    def _read_noise_untrusted(self) -> tuple[TransportKeys, bytes] | None:
        if len(self._buffer) < HEADER_LEN:
            return None
        kind = self._buffer[0]
        length = int.from_bytes(self._buffer[1:HEADER_LEN], "big")
        if kind == TYPE_ERROR:
            if len(self._buffer) < HEADER_LEN + min(length, MAX_ERROR_FRAME):
                return None
            text = self._buffer[HEADER_LEN:][: min(length, MAX_ERROR_FRAME)].decode(
                "utf-8", "replace"
            )
            msg = f"the server refuses the handshake: {text!r}"
            raise RemoteProtocolError(msg)
        if kind != TYPE_RESPONSE:
            msg = "not a Noise response"
            raise BadPacket(msg)
        if len(self._buffer) < RESPONSE_LEN:
            return None
        frame, rest = self._buffer[:RESPONSE_LEN], self._buffer[RESPONSE_LEN:]
        return self._initiator.read_response_untrusted(frame), rest
