"""Who the others are."""

from tailnet.agent.localapi.exchange import JSON, Request, Response, text
from tailnet.agent.localapi.interface import Backend
from tailnet.agent.localapi.who import describe, find, parse_address
from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.node import NodeID, UserID

NO_MATCH = text(404, "no match for IP:port")


async def whois(backend: Backend, request: Request) -> Response:
    """``GET whois``: node, user and grants behind an address or a key."""
    wanted, netmap = request.query.get("addr", ""), backend.netmap()
    if not wanted:
        return text(400, "missing 'addr' parameter")
    who = parse_address(wanted)
    node = None if netmap is None else find(netmap, who)
    if netmap is None or node is None:
        return NO_MATCH
    return Response(200, encode(describe(netmap, node)), JSON)


async def user_profile(backend: Backend, request: Request) -> Response:
    """``GET user-profile``, by ``id``."""
    wanted, netmap = _number(request.query.get("id", "")), backend.netmap()
    if wanted is None:
        return text(400, "invalid 'id' parameter")
    user = netmap.user_profiles.get(UserID(wanted)) if netmap else None
    return text(404, "no such user") if user is None else Response(200, encode(user), JSON)


async def peer_by_id(backend: Backend, request: Request) -> Response:
    """``GET peer-by-id``: as control described it."""
    wanted, netmap = _number(request.query.get("id", "")), backend.netmap()
    if wanted is None:
        return text(400, "invalid 'id' parameter")
    node = netmap.peers.get(NodeID(wanted)) if netmap else None
    return text(404, "no such peer") if node is None else Response(200, encode(node), JSON)


def _number(digits: str) -> int | None:
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else None
