"""Requests of peers, judged and read; pure.

Source: tailscale ipn/ipnlocal/peerapi.go, validateHost, validatePeerAPIRequest, handleDNSQuery;
RFC 8484 section 4.1.
"""

import base64
import binascii

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.httpd.conversation import BadRequest, Request

DNS_PATH = "/dns-query"
MESSAGE = "application/dns-message"
MAX_MESSAGE = 256 << 10  # bytes of a body
_NAMES_NOBODY = "peer"  # a host name for callers that know none


def check_untrusted(request: Request, own: AddrPort) -> None:
    """It is meant for us, and no web page of somebody else sent it.

    Raises:
        BadRequest: it is not, or one did.
    """
    if request.host != _NAMES_NOBODY:
        try:
            meant = AddrPort.parse(request.host)
        except BadPacket:
            meant = None
        if meant != own:
            raise BadRequest(403, "the Host header must be our address and port, or: peer")
    if "origin" in request.headers or "referer" in request.headers:
        raise BadRequest(403, "the PeerAPI is not for web pages")


def message_untrusted(request: Request, body: bytes) -> bytes:
    """The DNS message of a request for :data:`DNS_PATH`.

    Raises:
        BadRequest: there is none.
    """
    if request.method == "POST":
        if request.headers.get("content-type", "").partition(";")[0].strip() != MESSAGE:
            raise BadRequest(415, f"the body must be {MESSAGE}")
        return body
    if request.method != "GET":
        raise BadRequest(405, "use GET or POST")
    text = request.query.get("dns", "")
    try:
        message = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        message = b""
    if not message:
        raise BadRequest(400, "?dns= must be a DNS message in base64url")
    return message
