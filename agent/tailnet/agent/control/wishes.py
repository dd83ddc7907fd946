"""What a node asks of its control server besides the map: requests with a small JSON answer.

Source: tailscale control/controlclient/direct.go, SetDNS; tailcfg/tailcfg.go, SetDNSRequest.
"""

from tailnet.agent.control.register import CAPABILITY_VERSION, one_line_untrusted
from tailnet.agent.errors import UserError
from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.codec import Struct

SET_DNS = "/machine/set-dns"
ACME_PREFIX = "_acme-challenge."
MAX_NAME = 253  # characters of a domain name
MAX_VALUE = 255  # bytes of one string of a TXT record
NOT_THERE = (404, 501)


class SetDNSRequest(Struct, frozen=True, kw_only=True):
    """A TXT record of a node's own name."""

    version: int
    node_key: NodePublic
    name: str
    type: str
    value: str


def set_dns_request(node_key: NodePublic, name: str, value: str) -> SetDNSRequest:
    """A record that proves to a certificate authority whose name it is.

    Raises:
        UserError: not the name or the value of such a record.
    """
    if not name.startswith(ACME_PREFIX) or len(name) > MAX_NAME or not _is_plain(name):
        msg = f"bad record name {name[:MAX_NAME]!r}: it has the form {ACME_PREFIX}HOST.TAILNET"
        raise UserError(msg)
    if not 0 < len(value) <= MAX_VALUE or not _is_plain(value):
        msg = f"bad record value: it has 1 to {MAX_VALUE} printable characters"
        raise UserError(msg)
    return SetDNSRequest(
        version=CAPABILITY_VERSION, node_key=node_key, name=name, type="TXT", value=value
    )


def check_set_dns_untrusted(status: int, body: bytes) -> None:
    """Whether the server did it.

    Raises:
        UserError: it did not, and why.
    """
    if status == 200:
        return
    if status in NOT_THERE:
        msg = f"this control server does not set DNS records ({status})"
    else:
        msg = f"the control server did not set the record: {one_line_untrusted(body)} ({status})"
    raise UserError(msg)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
