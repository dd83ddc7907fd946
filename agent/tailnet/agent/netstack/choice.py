"""Which way a connection goes: into the tailnet through the stack, everywhere else the host's way.

Source: tailscale net/tsdial/tsdial.go, UserDial.
"""

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address

from tailnet.agent.addr import (
    AddrPort,
    IPAddress,
    IPNetwork,
    behind_site,
    is_tailnet,
    unmap,
)

LOOPBACK = IPv4Address("127.0.0.1")
BROADCAST = IPv4Address("255.255.255.255")


def parse_ip(host: str) -> IPAddress | None:
    """A literal address; ``None`` for a name."""
    try:
        return unmap(ip_address(host))
    except ValueError:
        return None


def parse_listen(text: str) -> AddrPort:
    """Where to listen: ``IP:PORT``, ``localhost:PORT``, or ``:PORT`` for everywhere.

    Raises:
        BadPacket: anything else.
    """
    host, colon, port = text.rpartition(":")
    known = {"": "0.0.0.0", "localhost": "127.0.0.1"}  # noqa: S104 - as Go's net.Listen
    return AddrPort.parse(known.get(host, host) + colon + port)


def peer_names(
    nodes: Iterable[tuple[str, tuple[IPAddress, ...]]],
) -> dict[str, tuple[IPAddress, ...]]:
    """From nodes' full names to what people type: ``host.tailnet.ts.net`` and ``host``.

    A full name wins over another node's short one.  The names' domains are there too, without
    addresses.
    """
    full = {name.rstrip(".").lower(): ips for name, ips in nodes if name}
    short = {name.partition(".")[0]: ips for name, ips in reversed(full.items())}
    domains = {name.partition(".")[2]: () for name in full if "." in name}
    return {**domains, **short, **full}


def find_name(names: Mapping[str, tuple[IPAddress, ...]], host: str) -> tuple[IPAddress, ...]:
    """Addresses of a node by name; empty if there is none."""
    return names.get(host.rstrip(".").lower(), ())


def is_nobody(names: Mapping[str, tuple[IPAddress, ...]], host: str) -> bool:
    """``host`` lies in a domain of the tailnet's nodes, and none has it: nobody else knows it."""
    name = host.rstrip(".").lower()
    return not names.get(name) and names.get(name.partition(".")[2]) == ()


def onward(
    own: Container[IPAddress], local: AddrPort, sites: Collection[IPNetwork] = ()
) -> AddrPort | None:
    """Where a peer's traffic to ``local`` goes: our own addresses mean 127.0.0.1.

    An address of one of these sites means the IPv4 address in it.

    ``None`` for what a subnet router or exit node must not reach for others: this host's loopback,
    its links, and addresses of tailnets.
    """
    ip = local.ip
    if ip in own:
        return AddrPort(LOOPBACK, local.port)
    if any(ip in site for site in sites):
        ip = behind_site(ip)
    special = ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified
    if special or ip == BROADCAST or is_tailnet(ip):
        return None
    return AddrPort(ip, local.port)


@dataclass(frozen=True, slots=True)
class Reach:
    """What the stack can reach, and from where."""

    own: frozenset[IPAddress] = frozenset()
    routes: frozenset[IPNetwork] = field(default_factory=frozenset)

    def is_stray(self, destination: IPAddress) -> bool:
        """An address only a tailnet hands out, which nobody has here: outside it is not either."""
        if destination in self.own or not is_tailnet(destination):
            return False
        return not any(destination in route for route in self.routes)

    def source(self, destination: IPAddress) -> IPAddress | None:
        """Our address to dial ``destination`` from; ``None``: it is here, or not in the tailnet."""
        if destination in self.own or not any(destination in route for route in self.routes):
            return None
        same = (ip for ip in self.own if ip.version == destination.version)
        return min(same, default=None, key=int)
