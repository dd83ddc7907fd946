"""What is asked when something is wrong."""

from tailnet.agent.localapi.exchange import Request, Response, json, problem, text
from tailnet.agent.localapi.handlers.inspect_map import current_netmap
from tailnet.agent.localapi.interface import Backend

DEBUG_ACTIONS = (
    "plan",
    "drops",
    "clear-netmap-cache",
    "netmon",
    "portmap",
    "rebind",
    "restun",
    "peer-relay-servers",
    "control-knobs",
    "peer-disco-keys",
    "statedir",
    "force-netmap-update",
    "break-tcp-conns",
    "break-derp-conns",
)
LATER = (
    "derp-set-homeless",
    "derp-unset-homeless",
    "notify",
    "pick-new-derp",
    "force-prefer-derp",
    "rotate-disco-key",
)
"""Upstream's that are not here."""


DONE = text(200, "done\n")  # upstream's word for it


async def debug(backend: Backend, request: Request) -> Response:
    """``POST debug``, an ``action``."""
    action = request.query.get("action", "")
    if action == "current-netmap":
        return await current_netmap(backend)
    if action in LATER:
        return problem(501, f"{action!r} is not supported yet")
    if action not in DEBUG_ACTIONS:
        return text(400, f"unknown debug action {action[:64]!r}")
    tree = await backend.debug(action)
    return DONE if tree is None else json(tree)


async def peer_relay_sessions(backend: Backend, _: Request) -> Response:
    """``GET debug-peer-relay-sessions``."""
    return json(backend.peer_relay_sessions())
