"""The network map's parts as they are, for programs and for those who look for a mistake."""

from tailnet.agent.localapi.exchange import JSON, Request, Response, json, text
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.localapi.view.netmap import netmap_tree
from tailnet.agent.tailcfg.codec import encode

NO_MAP = text(503, "no netmap")
FEATURES = ("capture", "dns", "exit-nodes", "hooks", "kill-switch", "peer-relay", "portmapper")


async def dns_config(backend: Backend, _: Request) -> Response:
    """``GET dns-config``: what control wants of names."""
    netmap = backend.netmap()
    return NO_MAP if netmap is None else Response(200, encode(netmap.dns), JSON)


async def packet_filter_rules(backend: Backend, _: Request) -> Response:
    """``GET debug-packet-filter-rules``: as control sent them."""
    netmap = backend.netmap()
    return NO_MAP if netmap is None else Response(200, encode(netmap.packet_filter), JSON)


async def packet_filter_matches(backend: Backend, _: Request) -> Response:
    """``GET debug-packet-filter-matches``: as packets meet them."""
    plan = await backend.debug("plan")
    return json(plan.get("Filter") if isinstance(plan, dict) else None)


async def current_netmap(backend: Backend) -> Response:
    """``POST debug?action=current-netmap``."""
    netmap = backend.netmap()
    return NO_MAP if netmap is None else json(netmap_tree(netmap))


async def suggest_exit_node(backend: Backend, _: Request) -> Response:
    """``GET suggest-exit-node``: ``{ID, Name, Location}``, empty if there is none."""
    node = backend.suggested_exit_node()
    if node is None:
        return json({"ID": "", "Name": "", "Location": None})
    return json({"ID": node.stable_id, "Name": node.name, "Location": None})


async def cert_domains(backend: Backend, _: Request) -> Response:
    """``GET cert-domains``: names of this node that certificates can be had for, says control."""
    netmap = backend.netmap()
    return json(netmap.dns.cert_domains or () if netmap is not None else ())


async def services(_: Backend, __: Request) -> Response:
    """``GET services``: none are published here."""
    return json({})


async def optional_features(_: Backend, __: Request) -> Response:
    """``GET debug-optional-features``."""
    return json({"Features": dict.fromkeys(FEATURES, True)})
