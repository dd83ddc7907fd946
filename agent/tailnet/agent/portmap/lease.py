"""A mapping that a gateway promised: for how long, and how it is given back."""

from typing import NamedTuple, Self

from tailnet.agent.addr import AddrPort
from tailnet.agent.portmap import natpmp, pcp
from tailnet.agent.portmap.actions import SendUdp
from tailnet.agent.portmap.ask import Granted
from tailnet.agent.portmap.igd import Post, removal
from tailnet.agent.portmap.interface import Network, Protocol

LIFETIME = 7200  # seconds asked for, and the most we believe in
SHORTEST = 4  # seconds; a lease that ends sooner is taken for this long
UPNP_RENEWAL = 1200.0  # seconds at most; a router that speaks only UPnP does not tell of restarts


class Mapping(NamedTuple):
    """What the gateway promised.  ``renew_at``, ``ends_at``: seconds."""

    granted: Granted
    internal: int
    by: Protocol
    renew_at: float
    ends_at: float

    @classmethod
    def begin(cls, granted: Granted, internal: int, by: Protocol, now: float) -> Self:
        """Of our port ``internal``, from ``now`` [s] on; renewed at half its time."""
        lifetime = min(max(granted.lifetime or LIFETIME, SHORTEST), LIFETIME)
        renewal = lifetime / 2
        if by is Protocol.UPNP:
            renewal = min(renewal, UPNP_RENEWAL)
        return cls(granted, internal, by, now + renewal, now + lifetime)

    @property
    def external(self) -> AddrPort:
        """Where datagrams from outside arrive."""
        return AddrPort(self.granted.ip, self.granted.port)

    def give_back(self, network: Network) -> Post | SendUdp:
        """What ends it."""
        if self.granted.service is not None:
            return removal(self.granted.service, self.granted.port)
        if self.by is Protocol.PCP:
            request = pcp.map_request(network.own, self.granted.nonce, self.internal, 0, 0)
        else:
            request = natpmp.map_request(self.internal, 0, 0)
        return SendUdp(AddrPort(network.gateway, natpmp.PORT), request)
