"""Which request reaches what, and who may ask: the LocalAPI without its socket.

Source: tailscale ipn/localapi/localapi.go.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tailnet.agent.localapi.exchange import Access, Request, Response, json, problem, text
from tailnet.agent.localapi.handlers import (
    accounts,
    control,
    debug,
    experiments,
    identity,
    inspect_map,
    metrics,
    names,
    network,
    prefs,
    process,
    tracing,
)
from tailnet.agent.localapi.handlers.accounts import PROFILES
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.localapi.openapi import describe
from tailnet.agent.localapi.schema.basics import BASE, HOST

DIAL = "dial"
BASE_DIAL = BASE + DIAL
CAPTURE = "debug-capture"
BASE_CAPTURE = BASE + CAPTURE
LOGTAP = "logtap"
BASE_LOGTAP = BASE + LOGTAP
PORTMAP = "debug-portmap"
BASE_PORTMAP = BASE + PORTMAP
OPENAPI = "openapi.json"

ONE = "{id}"  # in the table of routes: any name

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
        if f"{method} {name}" in LATER_METHODS:
            return problem(501, f"{method} {name} is not supported yet")
        return text(405, f"only {' and '.join(methods)} allowed")
    if access.value < route.needs.value:
        return text(403, f"{name} {route.needs.name.lower()} access denied")
    return route


async def _openapi(_: Backend, __: Request) -> Response:
    """``GET openapi.json``."""
    return json(published())


def published() -> dict[str, Any]:
    """The description of all routes."""
    return describe(
        {
            (name, method): route.needs.name.lower()
            for name, methods in ROUTES.items()
            for method, route in methods.items()
        }
    )


ROUTES: Mapping[str, Mapping[str, Route]] = {
    "status": {"GET": Route(Access.READ, network.get_status)},
    "prefs": {
        "GET": Route(Access.READ, prefs.get_prefs),
        "PATCH": Route(Access.WRITE, prefs.patch_prefs),
    },
    "check-prefs": {"POST": Route(Access.WRITE, prefs.check_prefs)},
    "start": {"POST": Route(Access.WRITE, accounts.start)},
    "login-interactive": {"POST": Route(Access.WRITE, accounts.login_interactive)},
    "logout": {"POST": Route(Access.WRITE, accounts.logout)},
    PROFILES: {
        "GET": Route(Access.READ, accounts.list_profiles),
        "PUT": Route(Access.WRITE, accounts.new_profile),
    },
    PROFILES + "current": {"GET": Route(Access.READ, accounts.current_profile)},
    PROFILES + ONE: {
        "GET": Route(Access.READ, accounts.get_profile),
        "POST": Route(Access.WRITE, accounts.switch_profile),
        "DELETE": Route(Access.WRITE, accounts.delete_profile),
    },
    "reload-config": {"POST": Route(Access.WRITE, prefs.reload_config)},
    "whois": {"GET": Route(Access.READ, identity.whois)},
    "user-profile": {"GET": Route(Access.READ, identity.user_profile)},
    "peer-by-id": {"GET": Route(Access.READ, identity.peer_by_id)},
    "dns-config": {"GET": Route(Access.READ, inspect_map.dns_config)},
    "dns-osconfig": {"GET": Route(Access.READ, names.osconfig)},
    "dns-query": {"GET": Route(Access.READ, names.query)},
    "dns-records": {
        "GET": Route(Access.READ, names.records),
        "POST": Route(Access.WRITE, names.add_record),
        "DELETE": Route(Access.WRITE, names.remove_record),
    },
    "suggest-exit-node": {"GET": Route(Access.READ, inspect_map.suggest_exit_node)},
    "set-use-exit-node-enabled": {"POST": Route(Access.WRITE, prefs.use_exit_node)},
    "cert-domains": {"GET": Route(Access.READ, inspect_map.cert_domains)},
    "services": {"GET": Route(Access.READ, inspect_map.services)},
    "debug-packet-filter-rules": {
        "GET": Route(Access.WRITE, inspect_map.packet_filter_rules),
        "POST": Route(Access.WRITE, inspect_map.packet_filter_rules),  # upstream's client says so
    },
    "debug-packet-filter-matches": {"GET": Route(Access.WRITE, inspect_map.packet_filter_matches)},
    "debug-optional-features": {"GET": Route(Access.READ, inspect_map.optional_features)},
    "usermetrics": {"GET": Route(Access.READ, metrics.user_metrics)},
    "metrics": {"GET": Route(Access.WRITE, metrics.metrics)},
    "goroutines": {"GET": Route(Access.WRITE, process.tasks)},
    "shutdown": {"POST": Route(Access.WRITE, process.shutdown)},
    "debug-log": {"POST": Route(Access.READ, process.debug_log)},
    "component-debug-logging": {"POST": Route(Access.WRITE, process.component_logging)},
    LOGTAP: {"GET": Route(Access.WRITE, None)},
    "set-dns": {"POST": Route(Access.WRITE, control.set_dns)},
    "id-token": {"GET": Route(Access.WRITE, control.id_token)},
    "query-feature": {"POST": Route(Access.READ, control.query_feature)},
    "alpha-set-device-attrs": {"PATCH": Route(Access.WRITE, control.device_attributes)},
    "set-expiry-sooner": {"POST": Route(Access.WRITE, control.expire_sooner)},
    "disconnect-control": {"POST": Route(Access.WRITE, control.disconnect)},
    "reset-auth": {"POST": Route(Access.WRITE, control.reset_auth)},
    "bugreport": {"POST": Route(Access.READ, process.bugreport)},
    "debug": {"POST": Route(Access.WRITE, debug.debug)},
    "debug-peer-relay-sessions": {"GET": Route(Access.READ, debug.peer_relay_sessions)},
    "check-so-mark-in-use": {"GET": Route(Access.READ, experiments.uses_mark)},
    "debug-peer-endpoint-changes": {"GET": Route(Access.READ, experiments.endpoint_changes)},
    "debug-dial-types": {"POST": Route(Access.WRITE, experiments.dial_types)},
    "debug-derp-region": {"POST": Route(Access.WRITE, experiments.derp_region)},
    "debug-rotate-disco-key": {"POST": Route(Access.WRITE, experiments.rotate_disco_key)},
    PORTMAP: {"GET": Route(Access.WRITE, None)},
    "pprof": {"GET": Route(Access.WRITE, experiments.pprof)},
    "watch-ipn-bus": {"GET": Route(Access.READ, None)},
    "ping": {"POST": Route(Access.READ, network.ping)},
    "path": {"GET": Route(Access.READ, network.get_path)},
    "trace": {"GET": Route(Access.READ, tracing.trace)},
    "routes": {"GET": Route(Access.READ, network.get_routes)},
    "check-ip-forwarding": {"GET": Route(Access.READ, network.check_ip_forwarding)},
    "check-udp-gro-forwarding": {"GET": Route(Access.READ, network.check_udp_gro_forwarding)},
    "set-udp-gro-forwarding": {  # upstream's client says GET
        "GET": Route(Access.WRITE, network.set_udp_gro_forwarding),
        "POST": Route(Access.WRITE, network.set_udp_gro_forwarding),
    },
    "derpmap": {"GET": Route(Access.READ, network.derp_map)},
    "netcheck": {"POST": Route(Access.READ, network.netcheck)},
    DIAL: {"POST": Route(Access.READ, None)},
    CAPTURE: {"POST": Route(Access.WRITE, None)},
    OPENAPI: {"GET": Route(Access.READ, _openapi)},
    "serve-config": {"GET": Route(Access.READ, network.get_serve_config)},
}

LATER = frozenset(
    """
    pins appc-route-info routecheck upload-client-metrics
    debug-bus-events debug-bus-graph debug-bus-queues dev-set-state-store
    set-gui-visible set-push-device-token handle-push-message file-targets
    """.split()  # noqa: SIM905 - one name a word reads better
)
LATER_FAMILIES = frozenset(
    ("prefs", "conn25", "update", "policy", "cert", "file-put", "files", "drive", "tka")
)
LATER_METHODS = frozenset(("POST serve-config",))
"""Upstream's endpoints that a later version will have."""
