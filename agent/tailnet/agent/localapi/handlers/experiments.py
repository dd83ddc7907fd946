"""What is tried out on request.

Source: tailscale ipn/localapi/debug.go, debugderp.go; feature/debugportmapper.
"""

import re
from ipaddress import IPv4Address, ip_address

from msgspec import DecodeError, ValidationError
from msgspec import json as codec

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request, Response, json, text
from tailnet.agent.localapi.interface import Backend, Stream
from tailnet.agent.localapi.schema.bus import Notify
from tailnet.agent.localapi.schema.experiments import MarkInUse
from tailnet.agent.portmap.interface import Network, Protocol

MAX_SECONDS = 50.0  # of a profile: the answer is due within a minute
MAX_PORTMAP = 60.0  # seconds
PROTOCOLS = {
    "": frozenset(Protocol),
    "pmp": frozenset({Protocol.PMP}),
    "pcp": frozenset({Protocol.PCP}),
    "upnp": frozenset({Protocol.UPNP}),
}
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)", re.ASCII)
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0}
PROTOBUF = "application/octet-stream"


async def uses_mark(backend: Backend, _: Request) -> Response:
    """``GET check-so-mark-in-use``."""
    return json(MarkInUse(use_so_mark=backend.experiments.uses_mark()))


async def endpoint_changes(backend: Backend, request: Request) -> Response:
    """``GET debug-peer-endpoint-changes``, of the peer at ``ip``."""
    try:
        ip = ip_address(request.query.get("ip", ""))
    except ValueError:
        return text(400, "invalid IP")
    try:
        return json(backend.experiments.endpoint_changes(ip))
    except UserError as error:
        return text(404, str(error))


async def dial_types(backend: Backend, request: Request) -> Response:
    """``POST debug-dial-types``: to ``ip`` and ``port``."""
    port = request.query.get("port", "")
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    try:
        ip = ip_address(request.query.get("ip", ""))
    except ValueError:
        return text(400, "invalid IP")
    if not digits or not 0 < int(port) <= 0xFFFF:
        return text(400, "invalid 'port' parameter")
    if request.query.get("network", "tcp") not in ("", "tcp", "tcp4", "tcp6"):
        return text(400, "only tcp is supported")
    tries = await backend.experiments.dial_types(AddrPort(ip, int(port)))
    lines = (
        f"[{each.way}] connected={str(not each.error).lower()} err={each.error or '<nil>'}\n"
        for each in tries
    )
    return text(200, "".join(lines))


async def derp_region(backend: Backend, request: Request) -> Response:
    """``POST debug-derp-region``: ``region`` by number or code."""
    return json(await backend.experiments.derp_region(request.query.get("region", "")[:64]))


async def rotate_disco_key(backend: Backend, _: Request) -> Response:
    """``POST debug-rotate-disco-key``."""
    backend.experiments.rotate_disco_key()
    return Response(204)


async def pprof(backend: Backend, request: Request) -> Response:
    """``GET pprof``: ``name`` is ``profile`` or ``heap``, for ``seconds``."""
    name, said = request.query.get("name", ""), request.query.get("seconds", "") or "0"
    if not said.isascii() or not said.isdecimal() or len(said) > 4:
        return text(400, "invalid 'seconds' parameter")
    seconds = min(float(said), MAX_SECONDS)
    match name:
        case "profile":
            profile = await backend.process.processor_profile(seconds or 30.0)
        case "heap" | "allocs":
            profile = await backend.process.memory_profile(seconds)
        case _:
            return text(404, "there are profiles of the names profile and heap")
    return Response(200, profile, PROTOBUF)


def begin_portmap(backend: Backend, request: Request) -> Stream:
    """``GET debug-portmap``: ``type``, ``gateway_and_self`` and ``duration``.

    Raises:
        UserError: one of them is wrong.
    """
    protocols = PROTOCOLS.get(request.query.get("type", ""))
    if protocols is None:
        msg = "unknown portmap debug type"
        raise UserError(msg)
    asked = _DURATION.fullmatch(request.query.get("duration", "") or "5s")
    if asked is None:
        msg = "'duration' is like 5s, at most 60s"
        raise UserError(msg)
    seconds = min(float(asked[1]) * _UNITS[asked[2]], MAX_PORTMAP)
    return backend.experiments.portmap(seconds, protocols, _network(request))


def _network(request: Request) -> Network | None:
    given = request.query.get("gateway_and_self", "")
    if not given:
        return None
    gateway, _, own = given.partition("/")
    try:
        return Network(IPv4Address(gateway), IPv4Address(own))
    except ValueError:
        msg = "'gateway_and_self' is two IPv4 addresses with a slash between them"
        raise UserError(msg) from None


def notify(backend: Backend, request: Request) -> None:
    """``POST debug?action=notify``.

    Raises:
        UserError: the body is no ``Notify``.
    """
    try:
        told = codec.decode(request.body, type=Notify)
    except (DecodeError, ValidationError, RecursionError) as error:
        msg = f"the body is no Notify: {error}"
        raise UserError(msg) from None
    backend.experiments.notify(told)


def force_home(backend: Backend, request: Request) -> None:
    """``POST debug?action=force-prefer-derp``: a region's number, 0 for whichever serves best.

    Raises:
        UserError: the body is no number.
    """
    try:
        region = codec.decode(request.body, type=int)
    except (DecodeError, ValidationError):
        region = -1
    if not 0 <= region < 1 << 31:
        msg = "the body is the number of a region, or 0"
        raise UserError(msg)
    backend.experiments.force_home(region or None)
