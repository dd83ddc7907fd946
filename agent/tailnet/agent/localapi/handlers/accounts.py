"""Logging in and out, and the accounts of this machine."""

from tailnet.agent.backend.prefs import FIELDS, NOT_SETTABLE
from tailnet.agent.localapi.exchange import Request, Response, json, parse_object, text
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.localapi.schema.basics import BASE

PROFILES = "profiles/"


async def start(backend: Backend, request: Request) -> Response:
    """``POST start``: prefs that are named, and a login with ``AuthKey``."""
    options = parse_object(request.body)
    update, auth_key = options.get("UpdatePrefs"), options.get("AuthKey") or ""
    if not isinstance(update, dict | None) or not isinstance(auth_key, str):
        return text(400, "UpdatePrefs is an object and AuthKey a string")
    if update is not None:
        update = {name: update[name] for name in FIELDS if name in update}
        update = {name: value for name, value in update.items() if name not in NOT_SETTABLE}
    await backend.start(update, auth_key)
    return Response(204)


async def login_interactive(backend: Backend, _: Request) -> Response:
    """``POST login-interactive``: the URL comes on the bus."""
    await backend.login_interactive()
    return Response(204)


async def logout(backend: Backend, _: Request) -> Response:
    """``POST logout``."""
    await backend.logout()
    return Response(204)


async def list_profiles(backend: Backend, _: Request) -> Response:
    """``GET profiles/``."""
    return json(backend.profiles())


async def new_profile(backend: Backend, _: Request) -> Response:
    """``PUT profiles/``."""
    await backend.new_profile()
    return Response(201)


async def current_profile(backend: Backend, _: Request) -> Response:
    """``GET profiles/current``."""
    return json(backend.profile())


def _profile_id(request: Request) -> str:
    return request.path.removeprefix(BASE + PROFILES)


async def get_profile(backend: Backend, request: Request) -> Response:
    """``GET profiles/ID``."""
    wanted = _profile_id(request)
    for profile in backend.profiles():
        if profile.id == wanted:
            return json(profile)
    return text(404, "Profile not found")


async def switch_profile(backend: Backend, request: Request) -> Response:
    """``POST profiles/ID``."""
    await backend.switch_profile(_profile_id(request))
    return Response(204)


async def delete_profile(backend: Backend, request: Request) -> Response:
    """``DELETE profiles/ID``."""
    await backend.delete_profile(_profile_id(request))
    return Response(204)
