"""The HTTP exchange that turns a connection into a DERP stream.

::

    GET /derp HTTP/1.1                      HTTP/1.1 101 Switching Protocols
    Host: relay.example                     Upgrade: DERP
    Upgrade: DERP                           Connection: Upgrade
    Connection: Upgrade                     Derp-Version: 2
    Ideal-Node: 1a                          Derp-Public-Key: …   (not needed: ServerKey follows)

Source: tailscale derp/derphttp/derphttp_client.go, derp/derpserver/handler.go; RFC 9110 §7.8.
"""

from tailnet.agent.errors import BadPacket

MAX_HEAD = 1 << 14  # bytes of a response head
END = b"\r\n\r\n"


def encode_request(host: str, ideal_node: str = "") -> bytes:
    """The request; ``host`` goes into Host, ``ideal_node`` names the node we would have liked.

    Raises:
        BadPacket: a name from the map that cannot stand in a header.
    """
    if not _is_token(host) or not _is_token(ideal_node or "-"):
        msg = "bad host name of a relay"
        raise BadPacket(msg)
    lines = ["GET /derp HTTP/1.1", f"Host: {host}", "Upgrade: DERP", "Connection: Upgrade"]
    if ideal_node:
        lines.append(f"Ideal-Node: {ideal_node}")
    return "\r\n".join(lines).encode() + END


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


class UpgradeReader:
    """Reads the response head, however it was chunked; what follows it belongs to the stream."""

    __slots__ = ("_head",)

    def __init__(self) -> None:
        self._head = bytearray()

    def feed_untrusted(self, data: bytes) -> bytes | None:
        """``None`` until the head is complete, then the bytes that came after it.

        Raises:
            BadPacket: not a 101, or the head does not end.
        """
        scanned = max(0, len(self._head) - len(END) + 1)
        self._head += data
        end = self._head.find(END, scanned)
        if end < 0:
            if len(self._head) > MAX_HEAD:
                msg = "HTTP head is too long"
                raise BadPacket(msg)
            return None
        status, *_ = bytes(self._head[:end]).split(b"\r\n", 1)
        rest = bytes(self._head[end + len(END) :])
        self._head.clear()
        version, _, code = status.partition(b" ")
        if not version.startswith(b"HTTP/1.") or code[:3] != b"101":
            shown = code[:3].decode("ascii", "replace") if code[:3].isdigit() else "no HTTP"
            msg = f"the relay did not switch to DERP ({shown})"
            raise BadPacket(msg)
        return rest
