"""Domain names in one form, and the names of nodes.

A name here is lower case without the final dot; the root is the empty string.

Source: tailscale util/dnsname, ipn/ipnlocal/node_backend.go dnsConfigForNetmap.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NewType

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.node import Node, NodeID

Name = NewType("Name", str)

ROOT = Name("")
MAX_NAME = 253  # characters, RFC 1035 section 2.3.4 without length octets
MAX_LABEL = 63
MAGIC_DNS_AAAA = "magicdns-aaaa"
SUBDOMAIN_RESOLVE = "dns-subdomain-resolve"


def parse_name_untrusted(text: str) -> Name:
    """A name as control or a person writes it, final dot or not; ``.`` is the root.

    Raises:
        BadPacket: an empty or long label, a long name, or a character that no zone file takes bare.
    """
    name = text.removesuffix(".").lower()
    if not name:
        return ROOT
    bad = len(name) > MAX_NAME or not name.isascii() or not name.isprintable()
    if bad or any(not 0 < len(label) <= MAX_LABEL for label in name.split(".")) or " " in name:
        msg = "not a domain name"
        raise BadPacket(msg)
    return Name(name)


def parents(name: Name) -> Iterator[Name]:
    """``a.b.c`` gives ``b.c``, ``c`` and the root."""
    rest = name
    while rest:
        rest = Name(rest.partition(".")[2])
        yield rest


def within(name: Name, suffix: Name) -> bool:
    """True for the suffix itself and everything below it."""
    return not suffix or name == suffix or name.endswith("." + suffix)


class NodeNames:
    """Names of this node and its peers, changed as the network map is: one node at a time.

    A node with an IPv4 address has no AAAA unless we carry ``magicdns-aaaa``: programs would try
    the slower path first.  When we have no IPv4 address ourselves, only AAAA are given.
    """

    __slots__ = ("_aaaa", "_by_ip", "_by_name", "_names", "_only_v6", "_subdomains")

    def __init__(self) -> None:
        self._names: dict[NodeID, tuple[Name, tuple[IPAddress, ...]]] = {}
        self._by_name: dict[Name, NodeID] = {}
        self._by_ip: dict[IPAddress, NodeID] = {}
        self._subdomains: set[NodeID] = set()
        self._aaaa = self._only_v6 = False

    def set_self(self, node: Node) -> None:
        """Our own record: its capabilities decide for all."""
        own = node.ips()
        self._aaaa = MAGIC_DNS_AAAA in (node.cap_map or {})
        self._only_v6 = bool(own) and all(ip.version == 6 for ip in own)
        self.change({node.id: node})

    def set_nodes(self, nodes: Iterable[Node]) -> None:
        """Everybody; who is not among them is forgotten."""
        wanted = {node.id: node for node in nodes}
        gone = dict.fromkeys(self._names.keys() - wanted.keys())
        self.change({**gone, **wanted})

    def change(self, changed: Mapping[NodeID, Node | None]) -> None:
        """These came or changed; ``None`` is gone.  A malformed name is a node without one."""
        for node_id, node in changed.items():
            self._forget(node_id)
            if node is None:
                continue
            try:
                name = parse_name_untrusted(node.name)
            except BadPacket:
                continue
            if name:
                self._learn(node_id, name, node)

    def addresses(self, name: Name) -> tuple[IPAddress, ...] | None:
        """Of a node, by its full name; empty if it has none to give, ``None``: no such node."""
        node_id = self._by_name.get(name)
        return None if node_id is None else self._given(self._names[node_id][1])

    def under(self, name: Name) -> tuple[IPAddress, ...] | None:
        """Of the nearest node above ``name`` that answers for its subdomains."""
        for parent in parents(name):
            node_id = self._by_name.get(parent)
            if node_id in self._subdomains:
                return self.addresses(parent)
        return None

    def owner(self, ip: IPAddress) -> Name | None:
        """Who has the address."""
        node_id = self._by_ip.get(ip)
        return None if node_id is None else self._names[node_id][0]

    def _learn(self, node_id: NodeID, name: Name, node: Node) -> None:
        ips = node.ips()
        self._names[node_id] = (name, ips)
        self._by_name.setdefault(name, node_id)
        for ip in ips:
            self._by_ip[ip] = node_id
        if SUBDOMAIN_RESOLVE in (node.cap_map or {}):
            self._subdomains.add(node_id)

    def _forget(self, node_id: NodeID) -> None:
        known = self._names.pop(node_id, None)
        if known is None:
            return
        name, ips = known
        self._subdomains.discard(node_id)
        if self._by_name.get(name) == node_id:
            del self._by_name[name]
        for ip in ips:
            if self._by_ip.get(ip) == node_id:
                del self._by_ip[ip]

    def _given(self, ips: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
        if self._only_v6:
            return tuple(ip for ip in ips if ip.version == 6)
        if self._aaaa or all(ip.version == 6 for ip in ips):
            return ips
        return tuple(ip for ip in ips if ip.version == 4)
