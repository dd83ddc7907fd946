"""What the rest of the agent knows of port mappings."""

from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from tailnet.agent.addr import AddrPort


class Protocol(Enum):
    """What a gateway may speak; the value is for people."""

    PMP = "NAT-PMP"
    PCP = "PCP"
    UPNP = "UPnP"


_RFC1918 = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))


class Network(NamedTuple):
    """Where we are: the gateway, and our own address towards it."""

    gateway: IPv4Address
    own: IPv4Address

    @property
    def private(self) -> bool:
        """The gateway has an address of RFC 1918; nobody else's is asked."""
        return any(self.gateway in net for net in _RFC1918)


class PortmapSupport(NamedTuple):
    """What the gateway answered to; ``None``: not asked."""

    upnp: bool | None = None
    pmp: bool | None = None
    pcp: bool | None = None


class Portmap(NamedTuple):
    """Where things stand.

    Attributes:
        external: where datagrams from outside arrive at our port; ``None`` without a mapping.
        support: of the gateway.
    """

    external: AddrPort | None = None
    support: PortmapSupport = PortmapSupport()


NO_PORTMAP = Portmap()
