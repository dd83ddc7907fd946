"""What the user wishes, and the file that may say so."""

from tailnet.agent.backend.prefs import Prefs, from_json, to_json, validate
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request, Response, json, parse_object, problem
from tailnet.agent.localapi.interface import Backend


async def get_prefs(backend: Backend, _: Request) -> Response:
    """``GET prefs``."""
    return _as_prefs(backend.prefs())


async def patch_prefs(backend: Backend, request: Request) -> Response:
    """``PATCH prefs``: a ``MaskedPrefs`` object."""
    try:
        return _as_prefs(await backend.edit_prefs(parse_object(request.body)))
    except UserError as error:
        return problem(400, str(error))


async def check_prefs(_: Backend, request: Request) -> Response:
    """``POST check-prefs``: would they be accepted?"""
    try:
        validate(from_json(parse_object(request.body)))
    except UserError as error:
        return problem(200, str(error))
    return problem(200, "")


async def reload_config(backend: Backend, _: Request) -> Response:
    """``POST reload-config``: refusals are in ``Err``."""
    tree: dict[str, object] = {"Reloaded": False, "Err": ""}
    try:
        tree["Reloaded"] = await backend.reload_config()
    except UserError as error:
        tree["Err"] = str(error)
    return json(tree)


def _as_prefs(prefs: Prefs) -> Response:
    return json(to_json(prefs))
