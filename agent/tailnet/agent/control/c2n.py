"""Control-to-node requests: HTTP without a listener.

The server sends the text of a request in the map stream; the answer goes back as the text of a
response.  What this node does not do is declined in words, so that a server need not guess.  No
handler waits for anybody, so ``C2n-Handler-Timeout`` has nothing to limit.

Source: tailscale ipn/ipnlocal/c2n.go; control/controlclient/direct.go, answerC2NPing.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

import msgspec

from tailnet.agent.control.ask import Answers, HttpRequest
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.codec import NULL, decode_untrusted

MAX_HEAD = 64 << 10  # bytes

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer."""

    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest, Answers], HttpResponse | Awaitable[HttpResponse]]


def parse_request_untrusted(data: bytes) -> HttpRequest:
    """The text of one HTTP/1 request; its body is what follows the head.

    Raises:
        BadPacket: it is not that.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or len(head) > MAX_HEAD:
        msg = "not an HTTP request"
        raise BadPacket(msg)
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    is_method = words[0].isascii() and words[0].isalpha()
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not is_method:
        msg = "not an HTTP request"
        raise BadPacket(msg)
    try:
        parts = urlsplit(words[1])
        query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=100))
    except ValueError:
        msg = "not an HTTP request"
        raise BadPacket(msg) from None
    headers = {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)}
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < 10:
        body = body[: int(length)]
    return HttpRequest(words[0].upper(), parts.path, query, body, headers)


def encode_response(response: HttpResponse) -> bytes:
    """The text of an HTTP/1.1 response."""
    try:
        reason = HTTPStatus(response.status).phrase
    except ValueError:
        reason = "Unknown"
    head = [f"HTTP/1.1 {response.status} {reason}"]
    if response.body:
        head.append(f"Content-Type: {response.content_type}")
    head += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.status != HTTPStatus.NO_CONTENT:
        head.append(f"Content-Length: {len(response.body)}")
    return "\r\n".join([*head, "", ""]).encode() + response.body


async def answer(request: HttpRequest, node: Answers) -> HttpResponse:
    """Serve one request: exact method and path, else the path with any method, else a prefix."""
    handler = ROUTES.get(f"{request.method} {request.path}") or ROUTES.get(request.path)
    for prefix, prefixed in PREFIXES.items():
        if handler is None and request.path.startswith(prefix):
            handler = prefixed
    if handler is not None:
        said = handler(request, node)
        return said if isinstance(said, HttpResponse) else await said
    if any(route.partition(" ")[2] == request.path for route in ROUTES):
        return _text(405, "bad method")
    return _text(400, "unknown c2n path")


def _text(status: int, text: str) -> HttpResponse:
    return HttpResponse(status, f"{text}\n".encode())


def _says(body: bytes) -> Handler:
    return lambda _request, _node: HttpResponse(200, body, JSON)


def _declined(what: str) -> Handler:
    return lambda _request, _node: _text(501, f"this node {what}")


def _echo(request: HttpRequest, _: Answers) -> HttpResponse:
    return HttpResponse(200, request.body)


def _nothing_to_do(_request: HttpRequest, _node: Answers) -> HttpResponse:
    return HttpResponse(204)


async def _metrics(_: HttpRequest, node: Answers) -> HttpResponse:
    return HttpResponse(200, await node.metrics(), METRICS)


class _NetmapRequest(msgspec.Struct, frozen=True, rename="pascal"):
    candidate: msgspec.Raw = NULL
    omit_fields: tuple[str, ...] | None = None


def _netmap_untrusted(request: HttpRequest, node: Answers) -> HttpResponse:
    wanted = _NetmapRequest()
    try:
        if request.method == "POST":
            wanted = decode_untrusted(request.body, _NetmapRequest)
        candidate = None if wanted.candidate == NULL else bytes(wanted.candidate)
        said = node.netmap_untrusted(wanted.omit_fields or (), candidate)
    except BadPacket as error:
        return _text(400, str(error))
    return HttpResponse(200, said, JSON)


def _certificate(request: HttpRequest, _: Answers) -> HttpResponse:
    if not request.query.get("domain"):
        return _text(400, "no 'domain'")
    return HttpResponse(200, b'{"Missing":true}', JSON)


ROUTES: Mapping[str, Handler] = {
    "/echo": _echo,
    "POST /logtail/flush": _nothing_to_do,  # no logs are kept for upload
    "POST /sockstats": _declined("counts no socket statistics"),
    "/debug/prefs": lambda _, node: HttpResponse(200, node.prefs(), JSON),
    "/debug/health": lambda _, node: HttpResponse(200, node.health(), JSON),
    "/debug/metrics": _metrics,
    "/debug/goroutines": lambda _, node: HttpResponse(200, node.tasks()),
    "/debug/component-logging": _says(b'{"Error":"logs of a component cannot be switched"}'),
    "/debug/logheap": _declined("does not hand out its memory"),
    "/debug/pprof/heap": _declined("does not hand out its memory"),
    "/debug/pprof/allocs": _declined("does not hand out its memory"),
    "GET /debug/netmap": _netmap_untrusted,
    "POST /debug/netmap": _netmap_untrusted,
    "GET /debug/tka/log": _declined("has no tailnet lock"),
    "POST /netfilter-kind": _declined("chooses its kind of packet filter itself"),
    "GET /update": _says(
        b'{"Err":"not supported","Enabled":false,"Supported":false,"Started":false}'
    ),
    "POST /update": _says(
        b'{"Err":"not supported","Enabled":false,"Supported":false,"Started":false}'
    ),
    "GET /posture/identity": _says(b'{"PostureDisabled":true}'),
    "GET /appconnector/routes": _says(b'{"Domains":{}}'),
    "GET /tls-cert-status": _certificate,
    "GET /vip-services": _says(b'{"VIPServices":[],"ServicesHash":""}'),
    "POST /wol": _says(b'{"SentTo":null,"Errors":["this node wakes no others"]}'),
    "/ssh/usernames": _says(b'{"Usernames":[]}'),
    "GET /conn25/state": _declined("is no connector"),
}
PREFIXES: Mapping[str, Handler] = {
    "/remoteapi/localapi/": lambda _request, _node: _text(
        403, "remote configuration is not allowed here"
    ),
}
