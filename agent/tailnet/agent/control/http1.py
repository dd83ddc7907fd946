"""The little HTTP/1.1 that comes before the Noise connection: ``GET /key`` and the upgrade.

Source: RFC 9112; tailscale control/controlhttp/client.go.
"""

import base64

from tailnet.agent.errors import BadPacket, RemoteProtocolError
from tailnet.agent.httpd.response import split_head_untrusted
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
MAX_ERROR_FRAME = 1024  # bytes of text


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
