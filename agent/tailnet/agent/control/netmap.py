"""The network map: what one node knows of its tailnet."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tailnet.agent.addr import IPAddress
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.mapping import DisplayMessage
from tailnet.agent.tailcfg.node import Node, NodeID, UserID, UserProfile


@dataclass(frozen=True, slots=True)
class NetworkMap:
    """One consistent view; a later view is another object.

    The mappings belong to the map session: read them, do not keep writing references.
    """

    self_node: Node
    peers: Mapping[NodeID, Node]
    """In no order; never contains self.  A delta makes a new one that shares nearly all of it."""
    derp_map: DERPMap
    dns: DNSConfig
    packet_filter: tuple[FilterRule, ...] | None
    """All chunks in order; ``None``: never received, which denies everything inbound."""
    user_profiles: Mapping[UserID, UserProfile]
    domain: str
    health: tuple[str, ...]
    """Problems the server sees; empty once it has sent any display message."""
    display_messages: Mapping[str, DisplayMessage]
    collect_services: bool = False
    """The server wants to know who listens on this machine."""
    exits: Mapping[NodeID, Node] | None = field(default=None, compare=False)
    """The peers that offer to be exit nodes; ``None``: not counted, see :meth:`exit_nodes`."""

    def nodes(self) -> Iterator[Node]:
        """This node, then its peers."""
        yield self.self_node
        yield from self.peers.values()

    def exit_nodes(self) -> Iterable[Node]:
        """The peers that offer to be exit nodes."""
        if self.exits is not None:
            return self.exits.values()
        return (peer for peer in self.peers.values() if peer.offers_exit)

    def owner_of(self, ip: IPAddress) -> Node | None:
        """The node whose own address that is."""
        wanted = f"{ip}/{ip.max_prefixlen}"  # as control writes it: no node is parsed for this
        return next((node for node in self.nodes() if wanted in (node.addresses or ())), None)

    def with_capability(self, name: str) -> list[IPAddress]:
        """Own addresses of the peers that have a node capability."""
        return [
            ip for peer in self.peers.values() if name in (peer.cap_map or {}) for ip in peer.ips()
        ]

    def in_order(self) -> list[Node]:
        """The peers, by id."""
        return sorted(self.peers.values(), key=lambda peer: peer.id)
