"""Who in the network opens ports: questions to the gateway by every protocol, and who answered."""

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address

from tailnet.agent.addr import AddrPort
from tailnet.agent.portmap import natpmp, pcp, ssdp
from tailnet.agent.portmap.actions import SendUdp
from tailnet.agent.portmap.interface import Network, PortmapSupport, Protocol

MAX_GATEWAYS = 4  # answers to one search
_GROUP = IPv4Address(ssdp.GROUP)


class Search:
    """One round of questions.

    Attributes:
        heard: protocols by which the gateway answered.
    """

    __slots__ = ("_found", "heard")

    def __init__(self) -> None:
        self.heard: set[Protocol] = set()
        self._found: dict[str, int] = {}  # description URLs, with the version of the device

    @staticmethod
    def questions(network: Network, protocols: Collection[Protocol]) -> Iterator[SendUdp]:
        """What to send."""
        gateway = AddrPort(network.gateway, natpmp.PORT)
        if Protocol.PMP in protocols:
            yield SendUdp(gateway, natpmp.EXTERNAL_REQUEST)
        if Protocol.PCP in protocols:
            yield SendUdp(gateway, pcp.announce_request(network.own))
        if Protocol.UPNP in protocols:
            for search in ssdp.searches():
                for ip in (network.gateway, _GROUP):
                    yield SendUdp(AddrPort(ip, ssdp.PORT), search)

    def handle_ssdp_untrusted(self, data: bytes) -> None:
        """The gateway answered a search.

        Raises:
            BadPacket: it makes no sense.
        """
        found = ssdp.parse_untrusted(data)
        if found is not None and len(self._found) < MAX_GATEWAYS:
            self.heard.add(Protocol.UPNP)
            self._found[found.location] = found.version

    def descriptions(self) -> list[str]:
        """URLs of UPnP devices, the newest version first."""
        return sorted(self._found, key=lambda url: -self._found[url])

    def support(self, protocols: Collection[Protocol]) -> PortmapSupport:
        """What the gateway speaks, of what it was asked by."""
        asked = {p: p in self.heard if p in protocols else None for p in Protocol}
        return PortmapSupport(asked[Protocol.UPNP], asked[Protocol.PMP], asked[Protocol.PCP])
