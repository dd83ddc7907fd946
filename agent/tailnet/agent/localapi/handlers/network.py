"""How the network stands, and measuring it."""

from ipaddress import ip_address

from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import JSON, Request, Response, json, text
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.localapi.schema.basics import Advice

PING_KINDS = ("disco", "TSMP", "ICMP", "peerapi")
MAX_PING_SIZE = 65_535  # bytes


async def get_status(backend: Backend, request: Request) -> Response:
    """``GET status``; ``peers=false`` leaves them out."""
    peers = request.query.get("peers", "").lower() not in ("false", "0", "f")
    return json(await backend.status(peers))


async def derp_map(backend: Backend, _: Request) -> Response:
    """``GET derpmap``."""
    return json(backend.derp_map())


async def netcheck(backend: Backend, request: Request) -> Response:
    """``POST netcheck``, from ``address`` and ``port`` if given."""
    port = request.query.get("port", "") or "0"
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if not digits or int(port) > 0xFFFF:
        return text(400, "invalid 'port' parameter")
    report = await backend.netcheck(request.query.get("address", ""), int(port))
    return json(report)


async def ping(backend: Backend, request: Request) -> Response:
    """``POST ping``: one, of a ``type``, to an ``ip``."""
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
    return json(await backend.ping(ip, kind, size))


async def get_path(backend: Backend, request: Request) -> Response:
    """``GET path``, of one ``ip`` or of all peers."""
    wanted = request.query.get("ip", "")
    if not wanted:
        return json(backend.paths())
    try:
        return json(backend.path(ip_address(wanted)))
    except ValueError:
        return text(400, "invalid IP")
    except UserError as error:
        return text(404, str(error))


async def get_routes(backend: Backend, request: Request) -> Response:
    """``GET routes``, as they are or, with ``accept``, as they would be."""
    try:
        return json(backend.routes(request.query.get("accept")))
    except UserError as error:
        return text(400, str(error))


async def check_ip_forwarding(backend: Backend, _: Request) -> Response:
    """``GET check-ip-forwarding``: why the subnet routes of this machine do not work."""
    return json(Advice(backend.forwarding_problem()))


async def check_udp_gro_forwarding(backend: Backend, _: Request) -> Response:
    """``GET check-udp-gro-forwarding``: what makes forwarded UDP slow."""
    return json(Advice(backend.udp_gro_problem()))


async def set_udp_gro_forwarding(backend: Backend, _: Request) -> Response:
    """``set-udp-gro-forwarding``: make it quick, until the next start of the machine."""
    return json(Advice(backend.set_udp_gro()))


async def get_serve_config(_: Backend, __: Request) -> Response:
    """``GET serve-config``: upstream's ``status`` asks, and nothing is served."""
    return Response(200, b"{}", JSON)
