"""Networks as data: which hosts there are, on which segment, with which addresses.

A topology says what shall be; :class:`integration.lab.net.Network` makes it so.
"""

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

MAX_HOSTS = 200
FIRST_HOST = 11  # last octet of the first host; what is below belongs to servers


@dataclass(frozen=True, slots=True)
class Segment:
    """One Ethernet segment: a bridge in a namespace of its own, where the servers run too.

    Attributes:
        name: last part of the namespace's name.
        ipv4: address of the servers and its prefix length.
        ipv6: the same.
    """

    name: str
    ipv4: IPv4Interface
    ipv6: IPv6Interface


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One machine: a namespace with one link to the segment.

    Attributes:
        name: last part of the namespace's name, and the host name; lower case, 1 to 12 characters.
        ipv4: underlay address.
        ipv6: underlay address; ``None`` behind a router.
        behind: name of the router that it is behind; empty: it is on the segment.
    """

    name: str
    ipv4: IPv4Interface
    ipv6: IPv6Interface | None
    behind: str = ""

    def __post_init__(self) -> None:
        if re.fullmatch(r"[a-z][a-z0-9]{0,11}", self.name) is None:
            msg = f"not a host name for the lab: {self.name!r}"
            raise ValueError(msg)


class Translation(Enum):
    """What a router does to UDP, in the words of RFC 4787: mapping, then filtering."""

    CONE = "endpoint-independent, none"
    RESTRICTED = "endpoint-independent, by address"
    PORT = "endpoint-independent, by address and port"
    SYMMETRIC = "per destination at random, by address and port"
    HAIRPIN = "endpoint-independent, none; the inside reaches its own outer addresses"
    NO_HAIRPIN = "endpoint-independent, none; it does not"
    MAPPED_UPNP = "per destination at random, but it opens ports by UPnP"
    MAPPED_PCP = "per destination at random, but it opens ports by PCP"
    BLOCKED = "no UDP passes"


@dataclass(frozen=True, slots=True)
class RouterSpec:
    """A router with machines behind it that do not see each other, or another router.

    Attributes:
        name: last part of the namespace's name.
        wan: its outer address.
        lan: its inner address.
        inner: addresses of what is behind it.
        translation: what it does.
        behind: name of the router that it is behind itself; empty: it is on the segment.
        ipv6: its outer address if it carries IPv6, untranslated, and lets only answers in.
        outside: outer address of the ports that it opens; public, as ``miniupnpd`` wants it.
    """

    name: str
    wan: IPv4Interface
    lan: IPv4Interface
    inner: tuple[IPv4Address, ...]
    translation: Translation
    behind: str = ""
    ipv6: IPv6Interface | None = None
    outside: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole small internet.

    Attributes:
        internet: where the servers are.
        hosts: machines joined to it.
        udp: whether hosts can send UDP to each other; to the servers they always can.
        routers: outer ones first.
    """

    internet: Segment
    hosts: tuple[HostSpec, ...]
    udp: bool = True
    routers: tuple[RouterSpec, ...] = ()

    def __post_init__(self) -> None:
        names = [self.internet.name, *(host.name for host in self.hosts)]
        names += [router.name for router in self.routers]
        if len(set(names)) != len(names):
            msg = "two hosts of a topology have the same name"
            raise ValueError(msg)


OUTSIDE = IPv4Network("11.99.0.0/24")  # public addresses, known on the segment alone
INTERNET = Segment("inet", IPv4Interface("10.99.0.1/24"), IPv6Interface("fd99::1/64"))


def flat(*names: str, udp: bool = True) -> Topology:
    """All hosts on one segment.

    ::

        host 1 ── bridge (servers) ── host 2
                        │
                      host …

    Args:
        names: of the hosts; addresses are given in this order, from 10.99.0.11 and fd99::11.
        udp: see :class:`Topology`.
    """
    if len(names) > MAX_HOSTS:
        msg = f"at most {MAX_HOSTS} hosts"
        raise ValueError(msg)
    hosts = tuple(
        HostSpec(name, IPv4Interface(f"10.99.0.{number}/24"), IPv6Interface(f"fd99::{number}/64"))
        for number, name in enumerate(names, FIRST_HOST)
    )
    return Topology(INTERNET, hosts, udp=udp)
