"""What the control server asks of a node, and the port through which the node answers.

Source: tailscale tailcfg/tailcfg.go, PingRequest; control/controlclient/direct.go, answerPing.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from tailnet.agent.addr import IPAddress
from tailnet.agent.control.dialplan import ServerURL
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.codec import ip_or_none
from tailnet.agent.tailcfg.mapping import PingRequest, PingResponse

KINDS = ("disco", "TSMP", "ICMP", "peerapi")
MAX_PAYLOAD = 1 << 20  # bytes of base64; a server's own limit for bodies


class Answers(Protocol):
    """What a node can tell its control server."""

    async def ping(self, ip: IPAddress, kind: str) -> PingResponse | None:
        """Ping a peer, one of :data:`KINDS`; ``None`` when that kind is not possible here."""

    def prefs(self) -> bytes:
        """The user's wishes, as JSON without secrets."""

    def health(self) -> bytes:
        """What is wrong, as JSON."""

    def tasks(self) -> bytes:
        """What this process is doing: text, without values."""

    async def metrics(self) -> bytes:
        """What is counted, as Prometheus text."""

    def netmap_untrusted(self, omit: tuple[str, ...], candidate: bytes | None) -> bytes:
        """The network map in use, and what a map message would make of an empty one, as JSON.

        Raises:
            BadPacket: ``candidate`` is no first map message.
        """


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer goes: within the Noise connection, or to ``server`` outside of it."""

    noise: bool
    server: ServerURL
    path: str


@dataclass(frozen=True, slots=True)
class Head:
    """Say that this node is alive: ``HEAD``, nothing more."""

    target: Target


@dataclass(frozen=True, slots=True)
class Pings:
    """Ping ``ip`` once with each of ``kinds``; post each answer."""

    target: Target
    ip: IPAddress
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class C2n:
    """Post the answer to an HTTP request; see :mod:`tailnet.agent.control.c2n`."""

    target: Target
    payload: bytes


Ask = Head | Pings | C2n


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that came as text; names of headers are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def parse_ask_untrusted(request: PingRequest) -> Ask:
    """What is asked for.

    Raises:
        BadPacket: nothing that we understand.
    """
    target = _target_untrusted(request)
    if not request.types:
        return Head(target)
    if request.types == "c2n":
        payload = request.payload or ""
        if len(payload) > MAX_PAYLOAD:
            msg = "c2n request too long"
            raise BadPacket(msg)
        try:
            return C2n(target, base64.b64decode(payload, validate=True))
        except ValueError:
            msg = "c2n request is not base64"
            raise BadPacket(msg) from None
    ip = ip_or_none(request.ip)
    kinds = tuple(dict.fromkeys(kind for kind in request.types.split(",") if kind in KINDS))
    if ip is None or not kinds:
        msg = f"ping request of unknown types {request.types[:64]!r}"
        raise BadPacket(msg)
    return Pings(target, ip, kinds)


def _target_untrusted(request: PingRequest) -> Target:
    try:
        parts = urlsplit(request.url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    good = parts.scheme in {"http", "https"} and parts.hostname and request.url.isprintable()
    if not good or " " in request.url:
        msg = "ping request without a good URL"
        raise BadPacket(msg)
    path = parts.path or "/"
    server = ServerURL(
        f"{parts.scheme}://{parts.netloc}", parts.scheme == "https", parts.hostname or "", port
    )
    noise = request.url_is_noise or request.types == "c2n"
    return Target(noise, server, f"{path}?{parts.query}" if parts.query else path)
