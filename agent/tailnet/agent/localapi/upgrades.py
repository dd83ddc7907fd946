"""Requests that are no plain question: the bus, and connections through the daemon."""

from collections.abc import Mapping

from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Response, text
from tailnet.agent.localapi.schema.bus import (
    IN_PROCESS_NO_DISCONNECT,
    NO_NETMAP,
    PEER_CHANGES,
    PEER_PATCHES,
    RATE_LIMIT,
)

MAX_MASK = (1 << 31) - 1
DIAL_PROTOCOL = "ts-dial"


def parse_mask(query: Mapping[str, str]) -> int:
    """The mask of ``watch-ipn-bus``.

    Raises:
        UserError: not a number, or bits that exclude each other.
    """
    value = query.get("mask", "0") or "0"
    mask = int(value) if value.isascii() and value.isdecimal() and len(value) <= 10 else -1
    if not 0 <= mask <= MAX_MASK:
        msg = "bad mask"
        raise UserError(msg)
    if mask & IN_PROCESS_NO_DISCONNECT:
        msg = "this mask is for watchers within the daemon"
        raise UserError(msg)
    if mask & RATE_LIMIT and mask & (PEER_CHANGES | NO_NETMAP | PEER_PATCHES | 1 << 14):
        msg = "a rate limit cannot be combined with peer changes"
        raise UserError(msg)
    return mask


def parse_dial(headers: Mapping[str, str]) -> tuple[str, int] | Response:
    """Whom to connect with; names of ``headers`` are in lower case."""
    if headers.get("upgrade", "").lower() != DIAL_PROTOCOL:
        return text(400, f"the request must have 'Upgrade: {DIAL_PROTOCOL}'")
    if headers.get("dial-network", "tcp") not in ("tcp", "tcp4", "tcp6"):
        return text(400, "Dial-Network: only tcp is supported")
    host, port_text = headers.get("dial-host", ""), headers.get("dial-port", "")
    digits = port_text.isascii() and port_text.isdecimal() and len(port_text) <= 5
    port = int(port_text) if digits else 0
    if not 0 < len(host) <= 255 or not host.isprintable() or not 0 < port <= 0xFFFF:
        return text(400, "Dial-Host and Dial-Port must say whom to connect with")
    return host, port
