"""What a node asks of its control server besides the map: requests with a small JSON answer.

Source: tailscale control/controlclient/direct.go, SetDNS, SetDeviceAttrs; tailcfg/tailcfg.go,
SetDNSRequest, TokenRequest, QueryFeatureRequest, SetDeviceAttributesRequest.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.control.register import one_line_untrusted
from tailnet.agent.errors import UserError
from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.codec import Struct

SET_DNS = "/machine/set-dns"
ACME_PREFIX = "_acme-challenge."
MAX_NAME = 253  # characters of a domain name
MAX_AUDIENCE = 1024  # characters
MAX_VALUE = 255  # bytes of one string of a TXT record
NOT_THERE = (404, 501)


class SetDNSRequest(Struct, frozen=True, kw_only=True):
    """A TXT record of a node's own name."""

    version: int
    node_key: NodePublic
    name: str
    type: str
    value: str


class Wish(NamedTuple):
    """A request of this node.

    Attributes:
        body: its fields, but for ``NodeKey``.
        refused: what the server did not do, in words.
    """

    method: str
    path: str
    body: Mapping[str, object]
    refused: str

    def encode(self, node_key: NodePublic) -> bytes:
        """The request's body."""
        return msgspec.json.encode({**self.body, "NodeKey": str(node_key)})


def set_dns(name: str, value: str) -> Wish:
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
    body = {"Version": CAPABILITY_VERSION, "Name": name, "Type": "TXT", "Value": value}
    return Wish("POST", SET_DNS, body, "set the record")


def id_token(audience: str) -> Wish:
    """A token that says who this node is, to a service that trusts the server.

    Raises:
        UserError: no audience.
    """
    if not 0 < len(audience) <= MAX_AUDIENCE or not audience.isprintable():
        msg = f"bad audience: it has 1 to {MAX_AUDIENCE} printable characters"
        raise UserError(msg)
    body = {"CapVersion": CAPABILITY_VERSION, "Audience": audience}
    return Wish("POST", "/machine/id-token", body, "give an identity token")


def query_feature(feature: str) -> Wish:
    """Whether this node may use a feature, and where it is turned on.

    Raises:
        UserError: no name.
    """
    if not 0 < len(feature) <= MAX_NAME or not _is_plain(feature):
        msg = "bad name of a feature: it is a word, as serve"
        raise UserError(msg)
    return Wish("POST", "/machine/feature/query", {"Feature": feature}, "tell of the feature")


def device_attributes(update: Mapping[str, object]) -> Wish:
    """Set attributes of this node; ``None`` removes one."""
    body = {"Version": CAPABILITY_VERSION, "Update": update}
    return Wish("PATCH", "/machine/set-device-attr", body, "set the attributes")


def answer_untrusted(wish: Wish, status: int, body: bytes) -> dict[str, object]:
    """What the server says; nothing if that is no JSON object.

    Raises:
        UserError: it did not do it, and why.
    """
    if status in NOT_THERE:
        msg = f"this control server does not {wish.refused} ({status})"
        raise UserError(msg)
    if status not in (200, 204):
        said = one_line_untrusted(body)
        msg = f"the control server did not {wish.refused}: {said} ({status})"
        raise UserError(msg)
    try:
        tree = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, RecursionError):
        tree = {}
    return tree if isinstance(tree, dict) else {}


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
