"""Domain names in one form, and the names of nodes.

A name here is lower case without the final dot; the root is the empty string.

Source: tailscale util/dnsname, ipn/ipnlocal/node_backend.go dnsConfigForNetmap.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, NewType

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import BadPacket
from tailnet.agent.slices import SLICE, Steps, finish, sliced
from tailnet.agent.tailcfg.node import Node, NodeID

Name = NewType("Name", str)

ROOT = Name("")
LOCALHOST = Name("localhost")
MAX_NAME = 253  # characters, RFC 1035 section 2.3.4 without length octets
MAX_LABEL = 63
_LABELS = re.compile(rf"[!-\-/-~]{{1,{MAX_LABEL}}}(?:\.[!-\-/-~]{{1,{MAX_LABEL}}})*")
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
    if len(name) > MAX_NAME or _LABELS.fullmatch(name) is None:
        msg = "not a domain name"
        raise BadPacket(msg)
    return Name(name)


def parents(name: Name) -> Iterator[Name]:
    """``a.b.c`` gives ``b.c``, ``c`` and the root."""
    rest = name
    while rest:
        rest = Name(rest.partition(".")[2])
        yield rest


def in_search_order(name: Name, search: Iterable[str]) -> Iterator[Name]:
    """What a person may mean by it: with a dot first itself, as libc (resolv.conf(5), ndots)."""
    if "." in name:
        yield name
    for suffix in search:
        if len(name) + 1 + len(suffix) <= MAX_NAME:
            yield Name(f"{name}.{suffix}")
    if "." not in name:
        yield name


def within(name: Name, suffix: Name) -> bool:
    """True for the suffix itself and everything below it."""
    return not suffix or name == suffix or name.endswith("." + suffix)


class _Known(NamedTuple):
    """What of a node matters here; ``subdomains``: it answers for those below its name."""

    name: Name
    ips: tuple[IPAddress, ...]
    subdomains: bool


def _known(node: Node) -> _Known | None:
    try:
        name = parse_name_untrusted(node.name)
    except BadPacket:
        return None
    return _Known(name, node.ips(), SUBDOMAIN_RESOLVE in (node.cap_map or {})) if name else None


class NodeNames:
    """Names of this node and its peers, changed as the network map is: one node at a time.

    A node with an IPv4 address has no AAAA unless we carry ``magicdns-aaaa``: programs would try
    the slower path first.  When we have no IPv4 address ourselves, only AAAA are given.
    """

    __slots__ = ("_aaaa", "_by_ip", "_by_name", "_names", "_only_v6", "_own")

    def __init__(self) -> None:
        self._names: dict[NodeID, _Known] = {}
        self._by_name: dict[Name, tuple[NodeID, ...]] = {}  # the first is the one who is meant
        self._by_ip: dict[IPAddress, NodeID] | None = None  # made when somebody asks for an owner
        self._own: Node | None = None
        self._aaaa = self._only_v6 = False

    def set_self(self, node: Node) -> bool:
        """Our own record: its capabilities decide for all.  Whether any answer is another now."""
        if node is self._own:
            return False
        self._own, own = node, node.ips()
        before = self._aaaa, self._only_v6
        self._aaaa = MAGIC_DNS_AAAA in (node.cap_map or {})
        self._only_v6 = bool(own) and all(ip.version == 6 for ip in own)
        return self.change({node.id: node}) or before != (self._aaaa, self._only_v6)

    def set_nodes(self, nodes: Sequence[Node]) -> bool:
        """Everybody; who is not among them is forgotten.  Whether any answer is another now."""
        return finish(self.set_nodes_slices(nodes))

    def set_nodes_slices(self, nodes: Sequence[Node]) -> Steps[bool]:
        """:meth:`set_nodes` in slices."""
        self._own = None
        gone = self._names.keys() - {node.id for node in nodes}
        news = self.change(dict.fromkeys(gone))
        for part in sliced(nodes):
            news = self.change({node.id: node for node in part}) or news
            if len(part) == SLICE:
                yield
        return news

    def change(self, changed: Mapping[NodeID, Node | None]) -> bool:
        """These came or changed; ``None`` is gone.  A malformed name is a node without one.

        Returns:
            Whether any answer is another now: most changes of a node do not concern its name.
        """
        news = False
        for node_id, node in changed.items():
            known = None if node is None else _known(node)
            if known != self._names.get(node_id):
                news = True
                self._forget(node_id)
                if known is not None:
                    self._learn(node_id, known)
        return news

    def addresses(self, name: Name) -> tuple[IPAddress, ...] | None:
        """Of a node, by its full name; empty if it has none to give, ``None``: no such node."""
        holders = self._by_name.get(name)
        return None if holders is None else self._given(self._names[holders[0]].ips)

    def under(self, name: Name) -> tuple[IPAddress, ...] | None:
        """Of the nearest node above ``name`` that answers for its subdomains."""
        for parent in parents(name):
            holders = self._by_name.get(parent)
            if holders is not None and self._names[holders[0]].subdomains:
                return self.addresses(parent)
        return None

    def owner(self, ip: IPAddress) -> Name | None:
        """Who has the address."""
        if self._by_ip is None:
            self._by_ip = {ip: i for i, known in self._names.items() for ip in known.ips}
        node_id = self._by_ip.get(ip)
        return None if node_id is None else self._names[node_id].name

    def _learn(self, node_id: NodeID, known: _Known) -> None:
        self._names[node_id] = known
        self._by_name[known.name] = (*self._by_name.get(known.name, ()), node_id)
        if self._by_ip is not None:
            self._by_ip.update(dict.fromkeys(known.ips, node_id))

    def _forget(self, node_id: NodeID) -> None:
        known = self._names.pop(node_id, None)
        if known is None:
            return
        left = tuple(n for n in self._by_name[known.name] if n != node_id)
        if left:
            self._by_name[known.name] = left
        else:
            del self._by_name[known.name]
        if self._by_ip is not None:
            for ip in known.ips:
                if self._by_ip.get(ip) == node_id:
                    del self._by_ip[ip]

    def _given(self, ips: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
        if self._only_v6:
            return tuple(ip for ip in ips if ip.version == 6)
        if self._aaaa or all(ip.version == 6 for ip in ips):
            return ips
        return tuple(ip for ip in ips if ip.version == 4)
