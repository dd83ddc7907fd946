"""One question for a mapping by NAT-PMP or PCP, asked until it is answered or given up.

Source: RFC 6886 section 3.3, RFC 6887 section 11; tailscale net/portmapper/portmapper.go.
"""

from ipaddress import IPv4Address
from typing import NamedTuple

from tailnet.agent.portmap import natpmp, pcp
from tailnet.agent.portmap.answers import Answer
from tailnet.agent.portmap.upnp import Service


class Granted(NamedTuple):
    """A mapping that was made.

    Attributes:
        ip, port: where datagrams from outside arrive.
        lifetime: seconds; 0 means for ever.
        nonce: of PCP, which proves that it is ours.
        service: of UPnP, which can remove it.
    """

    ip: IPv4Address
    port: int
    lifetime: int
    nonce: bytes = b""
    service: Service | None = None


class Denied(NamedTuple):
    """There will be no mapping; ``why`` is for people."""

    why: str


class AskPmp:
    """NAT-PMP: the mapping and the outer address come in two answers, in any order.

    Args:
        internal: our port.
        wished: the port outside; 0 leaves it to the gateway.
        lifetime: seconds.

    Attributes:
        requests: datagrams to port 5351, to be repeated until there is a result.
    """

    def __init__(self, internal: int, wished: int, lifetime: int) -> None:
        self.requests = (
            natpmp.map_request(internal, wished, lifetime),
            natpmp.EXTERNAL_REQUEST,
        )
        self._internal = internal
        self._external: natpmp.External | None = None
        self._mapped: natpmp.Mapped | None = None

    def handle(self, answer: Answer) -> Granted | Denied | None:
        """What an answer comes to; ``None``: wait for more."""
        match answer:
            case natpmp.Refused(result) if result != natpmp.Result.UNSUPPORTED_VERSION:
                return Denied(f"refused, result {result}")  # the version is the probe's for PCP
            case pcp.Refused(pcp.Result.UNSUPPORTED_VERSION):
                return Denied("the gateway speaks only PCP")
            case natpmp.External():
                self._external = answer
            case natpmp.Mapped(_, self._internal, _, lifetime) if lifetime:
                self._mapped = answer
        if self._external is None or self._mapped is None:
            return None
        if self._external.ip is None:
            return Denied("the gateway has no address outside")
        return Granted(self._external.ip, self._mapped.external, self._mapped.lifetime)


class AskPcp:
    """PCP.  Only an answer with our nonce counts.

    Args:
        own: our address towards the gateway.
        nonce: 12 random bytes; of the mapping to be renewed, if there is one.
        internal, wished, lifetime: as above.
    """

    def __init__(
        self, own: IPv4Address, nonce: bytes, internal: int, wished: int, lifetime: int
    ) -> None:
        self.requests = (pcp.map_request(own, nonce, internal, wished, lifetime),)
        self._nonce = nonce
        self._internal = internal

    def handle(self, answer: Answer) -> Granted | Denied | None:
        """What an answer comes to; ``None``: wait for more."""
        match answer:
            case pcp.Refused(result):
                return Denied(f"refused, result {result}")
            case pcp.Mapped(_, self._nonce, self._internal, port, IPv4Address() as ip, lifetime):
                if not lifetime:
                    return None
                if ip.is_unspecified or ip.is_loopback or ip.is_multicast or not port:
                    return Denied("the gateway has no address outside")
                return Granted(ip, port, lifetime, nonce=self._nonce)
        return None
