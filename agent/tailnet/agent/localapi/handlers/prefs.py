"""What the user wishes, and the file that may say so."""

from tailnet.agent.backend.prefs import Prefs, from_json, validate
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request, Response, json, parse_object, problem, text
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.localapi.view.shapes import prefs_tree


async def get_prefs(backend: Backend, _: Request) -> Response:
    """``GET prefs``."""
    return _as_prefs(backend, backend.prefs())


async def patch_prefs(backend: Backend, request: Request) -> Response:
    """``PATCH prefs``: a ``MaskedPrefs`` object."""
    try:
        return _as_prefs(backend, await backend.edit_prefs(parse_object(request.body)))
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


async def use_exit_node(backend: Backend, request: Request) -> Response:
    """``POST set-use-exit-node-enabled``: off, or the last one again."""
    wanted = request.query.get("enabled", "").lower()
    if wanted not in ("true", "false"):
        return text(400, "'enabled' is true or false")
    return _as_prefs(backend, await backend.use_exit_node(wanted == "true"))


def _as_prefs(backend: Backend, prefs: Prefs) -> Response:
    return json(prefs_tree(prefs, backend.profile()))
