"""What the control server is asked for a local program.

Source: tailscale ipn/localapi/localapi.go.
"""

from datetime import UTC, datetime

from tailnet.agent.control import wishes
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request, Response, json, parse_object, problem, text
from tailnet.agent.localapi.interface import Backend


async def set_dns(backend: Backend, request: Request) -> Response:
    """``POST set-dns``: a TXT record of this node."""
    query = request.query
    try:
        await backend.ask_control(wishes.set_dns(query.get("name", ""), query.get("value", "")))
    except UserError as error:
        return problem(500, str(error))
    return json({})


async def id_token(backend: Backend, request: Request) -> Response:
    """``GET id-token``, for an ``aud``."""
    return await _ask(backend, wishes.id_token(request.query.get("aud", "")))


async def query_feature(backend: Backend, request: Request) -> Response:
    """``POST query-feature``: whether this node may use one."""
    return await _ask(backend, wishes.query_feature(request.query.get("feature", "")))


async def device_attributes(backend: Backend, request: Request) -> Response:
    """``PATCH alpha-set-device-attrs``."""
    return await _ask(backend, wishes.device_attributes(parse_object(request.body)))


async def _ask(backend: Backend, wish: wishes.Wish) -> Response:
    try:
        return json(await backend.ask_control(wish))
    except UserError as error:
        return problem(502, str(error))


async def expire_sooner(backend: Backend, request: Request) -> Response:
    """``POST set-expiry-sooner``, at ``expiry`` [Unix time]."""
    digits = request.query.get("expiry", "")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 10 or int(digits) == 0:
        return text(400, "'expiry' is a Unix time")
    try:
        await backend.expire_sooner(datetime.fromtimestamp(int(digits), UTC))
    except UserError as error:
        return problem(502, str(error))
    return text(200, "done\n")


async def disconnect(backend: Backend, _: Request) -> Response:
    """``POST disconnect-control``: until the next login or start."""
    await backend.disconnect_control()
    return Response(204)


async def reset_auth(backend: Backend, _: Request) -> Response:
    """``POST reset-auth``: forget every account and the machine's key."""
    await backend.reset_auth()
    return Response(204)
