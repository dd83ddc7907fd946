"""What is asked when something is wrong."""

from collections.abc import Callable, Mapping

from tailnet.agent.localapi.exchange import Request, Response, json, text
from tailnet.agent.localapi.handlers.experiments import force_home, notify
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
    "hostinfo",
    "ts2021",
    "force-netmap-update",
    "break-tcp-conns",
    "break-derp-conns",
)
DONE = text(200, "done\n")  # upstream's word for it

EXPERIMENTS: Mapping[str, Callable[[Backend, Request], None]] = {
    "rotate-disco-key": lambda backend, _: backend.experiments.rotate_disco_key(),
    "derp-set-homeless": lambda backend, _: backend.experiments.force_home(0),
    "derp-unset-homeless": lambda backend, _: backend.experiments.force_home(None),
    "pick-new-derp": lambda backend, _: backend.experiments.pick_home(),
    "force-prefer-derp": force_home,
    "notify": notify,
}
"""Actions that are tried out; some have a body."""


async def debug(backend: Backend, request: Request) -> Response:
    """``POST debug``, an ``action``."""
    action = request.query.get("action", "")
    if action == "current-netmap":
        return await current_netmap(backend)
    if (experiment := EXPERIMENTS.get(action)) is not None:
        experiment(backend, request)
        return DONE
    if action not in DEBUG_ACTIONS:
        return text(400, f"unknown debug action {action[:64]!r}")
    tree = await backend.debug(action)
    return DONE if tree is None else json(tree)


async def peer_relay_sessions(backend: Backend, _: Request) -> Response:
    """``GET debug-peer-relay-sessions``."""
    return json(backend.peer_relay_sessions())
