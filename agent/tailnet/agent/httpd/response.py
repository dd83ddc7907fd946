"""Answers to HTTP/1.1 requests, from servers that are not to be trusted.

Source: RFC 9112.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tailnet.agent.errors import BadPacket

MAX_HEAD = 32 << 10  # bytes
MAX_BODY = 64 << 10  # bytes; direct.go loadServerPubKeys


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and fields; names are lower case."""

    status: int
    headers: Mapping[str, str]


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
