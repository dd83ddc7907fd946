"""Which request reaches what, and who may ask: the LocalAPI without its socket.

Source: tailscale ipn/localapi/localapi.go.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Protocol

import msgspec

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.backend.prefs import FIELDS, NOT_SETTABLE, Prefs, from_json, to_json, validate
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.bus import Subscription
from tailnet.agent.localapi.schema import (
    BASE,
    HOST,
    IN_PROCESS_NO_DISCONNECT,
    NO_NETMAP,
    PEER_CHANGES,
    PEER_PATCHES,
    RATE_LIMIT,
    NetcheckReport,
    PathDetails,
    PingResult,
    Problem,
    Status,
    encode,
)
from tailnet.agent.netstack.interface import Connection
from tailnet.agent.tailcfg.derpmap import DERPMap

log = logging.getLogger("tailnet.localapi")

PING_KINDS = ("disco", "TSMP", "ICMP", "peerapi")
MAX_PING_SIZE = 65_535  # bytes
MAX_MASK = (1 << 31) - 1
DEBUG_ACTIONS = ("plan", "drops", "clear-netmap-cache")
DIAL = "dial"
BASE_DIAL = BASE + DIAL
CAPTURE = "debug-capture"
BASE_CAPTURE = BASE + CAPTURE
DIAL_PROTOCOL = "ts-dial"

PROFILES = "profiles/"
ONE = "{id}"  # in the table of routes: any name

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class Stream(Protocol):
    """Bytes for as long as somebody reads them."""

    async def read(self) -> bytes:
        """More; empty at the end."""

    def close(self) -> None:
        """No more is wanted.  Idempotent."""


class Backend(Protocol):
    """What the LocalAPI needs of the node."""

    async def status(self, peers: bool) -> Status:
        """A snapshot; ``peers`` false leaves ``Peer`` and ``User`` out."""

    def prefs(self) -> Prefs:
        """The current prefs."""

    async def edit_prefs(self, masked: Mapping[str, object]) -> Prefs:
        """Apply, validate and store a ``MaskedPrefs`` object; returns the new prefs.

        Raises:
            UserError: refused; nothing changed.
        """

    async def start(self, update_prefs: Mapping[str, object] | None, auth_key: str) -> None:
        """Store the given prefs, and log in with ``auth_key`` if not empty.

        ``update_prefs`` has settable fields only, unmasked; those that are absent stay.

        Raises:
            UserError: refused; nothing changed.
        """

    async def login_interactive(self) -> None:
        """Ask control for a login URL; it arrives on the bus."""

    async def logout(self) -> None:
        """Expire the node key and forget the login."""

    def profiles(self) -> tuple[LoginProfile, ...]:
        """All accounts, newest first."""

    def profile(self) -> LoginProfile:
        """The one in use; without id before its login is complete."""

    async def new_profile(self) -> None:
        """Use a new, empty account.

        Raises:
            UserError: refused; nothing changed.
        """

    async def switch_profile(self, profile_id: str) -> None:
        """Use another account.

        Raises:
            UserError: there is none of that id, or it cannot be used; nothing changed.
        """

    async def delete_profile(self, profile_id: str) -> None:
        """Forget an account and its keys; if it is in use, a new, empty one is.

        Raises:
            UserError: there is none of that id; nothing changed.
        """

    async def ping(self, ip: IPAddress, kind: str, size: int) -> PingResult:
        """One ping; waits for the answer as long as makes sense, then says so in ``err``.

        Raises:
            UserError: a ``kind`` that does not exist yet.
        """

    def paths(self) -> tuple[PathDetails, ...]:
        """The ways to all peers, in short."""

    def path(self, ip: IPAddress) -> PathDetails:
        """The ways to one peer.

        Raises:
            UserError: there is no such peer.
        """

    async def reload_config(self) -> bool:
        """Read the configuration file again; false if there is none.

        Raises:
            UserError: it says something wrong; nothing changed.
        """

    async def set_dns(self, name: str, value: str) -> None:
        """Let control publish a TXT record ``_acme-challenge.…`` of this node's name.

        Raises:
            UserError: it does not, or cannot be reached.
        """

    async def debug(self, action: str) -> object:
        """One of ``DEBUG_ACTIONS``: a tree for JSON, or ``None`` where there is nothing to say."""

    async def dial(self, host: str, port: int) -> Connection:
        """Connect by name or address, into the tailnet or elsewhere.

        Raises:
            UserError: no name, no way, no answer.
        """

    def derp_map(self) -> DERPMap:
        """The relays there are; none before the first network map."""

    async def netcheck(self, address: str, port: int) -> NetcheckReport:
        """Measure the network, from ``address`` and ``port`` if given.

        Raises:
            UserError: there is no map of relays, or no sending from there.
        """

    def capture(self) -> Stream:
        """Begin to copy packets, as pcapng.

        Raises:
            UserError: there is a capture already.
        """

    async def watch(self, mask: int, session_id: str) -> Subscription:
        """Begin a watch; the first message has what the mask's Initial bits ask for.

        ``session_id``: 16 hex digits, random.
        """

    def operator(self) -> str:
        """Name of the local user who may write besides root; empty if none."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.  ``path`` begins with a slash; ``query`` has the first value of each key."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One whole answer."""

    status: int
    body: bytes = b""
    content_type: str = TEXT


class Access(Enum):
    """What a caller may do, or a route needs; each includes those before."""

    NONE = 0
    READ = 1
    WRITE = 2


Handler = Callable[[Backend, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method of a path.  ``handler`` is ``None`` for what is no plain answer."""

    needs: Access
    handler: Handler | None


def access_of(uid: int | None, daemon_uid: int, operator_uid: int | None) -> Access:
    """What the process behind a connection may do; unknown credentials may do nothing."""
    if uid is None:
        return Access.NONE
    writers = {0, daemon_uid, operator_uid}
    return Access.WRITE if uid in writers else Access.READ


def refuse_headers(host: str, origin: str | None, referer: str | None) -> Response | None:
    """Keep web pages out: they cannot help sending a foreign Host, an Origin or a Referer."""
    if host not in ("", HOST):
        return text(403, "invalid localapi request: bad Host")
    if origin is not None or referer is not None:
        return text(403, "invalid localapi request: browsers may not ask")
    return None


def find(method: str, path: str, access: Access) -> Route | Response:  # noqa: PLR0911 - a decision list
    """The route of a request, or why there is none."""
    if path == "/":
        return text(200, "tailnetd\n") if method == "GET" else text(405, "only GET is allowed")
    name = path.removeprefix(BASE)
    if name == path:
        return text(404, "not found")
    if name.startswith(PROFILES) and name not in ROUTES:
        name = PROFILES + ONE
    methods = ROUTES.get(name)
    if methods is None:
        family = name.partition("/")[0]
        if name in LATER or (family in LATER_FAMILIES and "/" in name):
            return problem(501, f"{name[:64]!r} is not supported yet")
        return text(404, "not found")
    route = methods.get(method)
    if route is None:
        return text(405, f"only {' and '.join(methods)} allowed")
    if access.value < route.needs.value:
        return text(403, f"{name} {route.needs.name.lower()} access denied")
    return route


def text(status: int, message: str) -> Response:
    """A plain text answer."""
    return Response(status, message.encode())


def problem(status: int, message: str) -> Response:
    """An answer of ``{"Error": message}``."""
    return Response(status, encode(Problem(error=message)), JSON)


def _prefs_response(prefs: Prefs) -> Response:
    return Response(200, msgspec.json.encode(to_json(prefs)), JSON)


def _object(body: bytes) -> dict[str, object]:
    """A JSON object.

    Raises:
        UserError: something else.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError, ValueError):
        msg = "the request's body is not a JSON object"
        raise UserError(msg) from None


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


# --- handlers ------------------------------------------------------------------


async def _get_status(backend: Backend, request: Request) -> Response:
    peers = request.query.get("peers", "").lower() not in ("false", "0", "f")
    return Response(200, encode(await backend.status(peers)), JSON)


async def _get_prefs(backend: Backend, _: Request) -> Response:
    return _prefs_response(backend.prefs())


async def _patch_prefs(backend: Backend, request: Request) -> Response:
    try:
        return _prefs_response(await backend.edit_prefs(_object(request.body)))
    except UserError as error:
        return problem(400, str(error))


async def _check_prefs(_: Backend, request: Request) -> Response:
    try:
        validate(from_json(_object(request.body)))
    except UserError as error:
        return problem(200, str(error))
    return problem(200, "")


async def _start(backend: Backend, request: Request) -> Response:
    options = _object(request.body)
    update, auth_key = options.get("UpdatePrefs"), options.get("AuthKey") or ""
    if not isinstance(update, dict | None) or not isinstance(auth_key, str):
        return text(400, "UpdatePrefs is an object and AuthKey a string")
    if update is not None:
        update = {name: update[name] for name in FIELDS if name in update}
        update = {name: value for name, value in update.items() if name not in NOT_SETTABLE}
    await backend.start(update, auth_key)
    return Response(204)


async def _login_interactive(backend: Backend, _: Request) -> Response:
    await backend.login_interactive()
    return Response(204)


async def _logout(backend: Backend, _: Request) -> Response:
    await backend.logout()
    return Response(204)


async def _list_profiles(backend: Backend, _: Request) -> Response:
    return Response(200, msgspec.json.encode(backend.profiles()), JSON)


async def _new_profile(backend: Backend, _: Request) -> Response:
    await backend.new_profile()
    return Response(201)


async def _current_profile(backend: Backend, _: Request) -> Response:
    return Response(200, msgspec.json.encode(backend.profile()), JSON)


def _profile_id(request: Request) -> str:
    return request.path.removeprefix(BASE + PROFILES)


async def _get_profile(backend: Backend, request: Request) -> Response:
    wanted = _profile_id(request)
    for profile in backend.profiles():
        if profile.id == wanted:
            return Response(200, msgspec.json.encode(profile), JSON)
    return text(404, "Profile not found")


async def _switch_profile(backend: Backend, request: Request) -> Response:
    await backend.switch_profile(_profile_id(request))
    return Response(204)


async def _delete_profile(backend: Backend, request: Request) -> Response:
    await backend.delete_profile(_profile_id(request))
    return Response(204)


async def _reload_config(backend: Backend, _: Request) -> Response:
    tree: dict[str, object] = {"Reloaded": False, "Err": ""}
    try:
        tree["Reloaded"] = await backend.reload_config()
    except UserError as error:
        tree["Err"] = str(error)
    return Response(200, msgspec.json.encode(tree), JSON)


async def _set_dns(backend: Backend, request: Request) -> Response:
    try:
        await backend.set_dns(request.query.get("name", ""), request.query.get("value", ""))
    except UserError as error:
        return problem(500, str(error))
    return Response(200, b"{}", JSON)


async def _debug(backend: Backend, request: Request) -> Response:
    action = request.query.get("action", "")
    if action not in DEBUG_ACTIONS:
        return text(400, f"unknown debug action {action[:64]!r}")
    tree = await backend.debug(action)
    return Response(204) if tree is None else Response(200, msgspec.json.encode(tree), JSON)


async def _derp_map(backend: Backend, _: Request) -> Response:
    return Response(200, encode(backend.derp_map()), JSON)


async def _netcheck(backend: Backend, request: Request) -> Response:
    port = request.query.get("port", "") or "0"
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if not digits or int(port) > 0xFFFF:
        return text(400, "invalid 'port' parameter")
    report = await backend.netcheck(request.query.get("address", ""), int(port))
    return Response(200, encode(report), JSON)


async def _ping(backend: Backend, request: Request) -> Response:
    kind = request.query.get("type", "")
    if kind not in PING_KINDS:
        return text(400, f"'type' is one of {', '.join(PING_KINDS)}")
    try:
        ip = ip_address(request.query.get("ip", ""))
    except ValueError:
        return text(400, "invalid IP")
    size_text = request.query.get("size", "") or "0"
    size = int(size_text) if size_text.isascii() and size_text.isdecimal() else -1
    if not 0 <= size <= MAX_PING_SIZE:
        return text(400, "invalid 'size' parameter")
    if size and kind != "disco":
        return text(400, "'size' parameter is only supported with disco pings")
    return Response(200, encode(await backend.ping(ip, kind, size)), JSON)


async def _get_path(backend: Backend, request: Request) -> Response:
    wanted = request.query.get("ip", "")
    if not wanted:
        return Response(200, msgspec.json.encode(backend.paths()), JSON)
    try:
        return Response(200, encode(backend.path(ip_address(wanted))), JSON)
    except ValueError:
        return text(400, "invalid IP")
    except UserError as error:
        return text(404, str(error))


async def _get_serve_config(_: Backend, __: Request) -> Response:
    return Response(200, b"{}", JSON)  # nothing is served; upstream's status asks


ROUTES: Mapping[str, Mapping[str, Route]] = {
    "status": {"GET": Route(Access.READ, _get_status)},
    "prefs": {
        "GET": Route(Access.READ, _get_prefs),
        "PATCH": Route(Access.WRITE, _patch_prefs),
    },
    "check-prefs": {"POST": Route(Access.WRITE, _check_prefs)},
    "start": {"POST": Route(Access.WRITE, _start)},
    "login-interactive": {"POST": Route(Access.WRITE, _login_interactive)},
    "logout": {"POST": Route(Access.WRITE, _logout)},
    PROFILES: {
        "GET": Route(Access.READ, _list_profiles),
        "PUT": Route(Access.WRITE, _new_profile),
    },
    PROFILES + "current": {"GET": Route(Access.READ, _current_profile)},
    PROFILES + ONE: {
        "GET": Route(Access.READ, _get_profile),
        "POST": Route(Access.WRITE, _switch_profile),
        "DELETE": Route(Access.WRITE, _delete_profile),
    },
    "reload-config": {"POST": Route(Access.WRITE, _reload_config)},
    "set-dns": {"POST": Route(Access.WRITE, _set_dns)},
    "debug": {"POST": Route(Access.WRITE, _debug)},
    "watch-ipn-bus": {"GET": Route(Access.READ, None)},
    "ping": {"POST": Route(Access.READ, _ping)},
    "path": {"GET": Route(Access.READ, _get_path)},
    "derpmap": {"GET": Route(Access.READ, _derp_map)},
    "netcheck": {"POST": Route(Access.READ, _netcheck)},
    DIAL: {"POST": Route(Access.READ, None)},
    CAPTURE: {"POST": Route(Access.WRITE, None)},
    "serve-config": {"GET": Route(Access.READ, _get_serve_config)},
}

LATER = frozenset(
    """
    reset-auth set-expiry-sooner shutdown disconnect-control
    set-use-exit-node-enabled suggest-exit-node user-profile peer-by-id services whois id-token
    alpha-set-device-attrs query-feature cert-domains pins dns-config
    dns-osconfig dns-query check-ip-forwarding check-udp-gro-forwarding set-udp-gro-forwarding
    check-so-mark-in-use appc-route-info routecheck bugreport goroutines pprof metrics usermetrics
    upload-client-metrics component-debug-logging logtap debug-log
    debug-packet-filter-rules debug-packet-filter-matches debug-peer-endpoint-changes
    debug-derp-region debug-portmap debug-dial-types debug-optional-features
    debug-bus-events debug-bus-graph debug-bus-queues debug-peer-relay-sessions
    dev-set-state-store debug-rotate-disco-key set-gui-visible set-push-device-token
    handle-push-message file-targets
    """.split()  # noqa: SIM905 - one name a word reads better
)
LATER_FAMILIES = frozenset(
    ("prefs", "conn25", "update", "policy", "cert", "file-put", "files", "drive", "tka")
)
"""Upstream's endpoints that a later version will have."""
