"""What a trace looks at: the plan in force, and how peers stand at this moment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.plan import Plan
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.filter.rules import ICMP4, ICMP6, TCP, UDP
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.report import PathReport
from tailnet.agent.tailcfg.node import Node

PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP4}


class PeerFacts(NamedTuple):
    """How a peer stands.

    Attributes:
        handshake_age: since the last handshake [s]; ``None``: there was none.
        path: the ways to it; ``None``: magicsock does not know it.
        rejected: what it told us about flows of ours that it did not let in, oldest first, each as
            ``tcp 22: rules, 3 s ago``.
    """

    handshake_age: float | None
    path: PathReport | None
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """One moment.

    Attributes:
        state: the backend's, by its label.
        warnings: health, in words.
        netmap: what control says.
        plan: what is in force for packets.
        about: how a peer stands.
        wall: now.
    """

    state: str
    warnings: tuple[str, ...]
    prefs: Prefs
    netmap: NetworkMap | None
    plan: Plan | None
    about: Callable[[PeerId], PeerFacts]
    wall: datetime


class Flow(NamedTuple):
    """What is asked about.  ``port`` 0: any of them; ``proto`` is a key of ``PROTOCOLS``."""

    proto: str
    port: int = 0

    def number(self, version: int) -> int:
        """The protocol's number in a packet of that family."""
        return ICMP6 if self.proto == "icmp" and version == 6 else PROTOCOLS[self.proto]

    def __str__(self) -> str:
        return f"{self.proto} {self.port}" if self.port else self.proto


class Packet(NamedTuple):
    """The first one of a flow; both addresses are of one family."""

    src: IPAddress
    dst: IPAddress
    flow: Flow


def find(netmap: NetworkMap, who: str) -> Node | None:
    """A node by address, whole name, or first label."""
    wanted = who.rstrip(".").lower()
    for node in netmap.nodes():
        if f"{wanted}/32" in (node.addresses or ()) or f"{wanted}/128" in (node.addresses or ()):
            return node
        if wanted and wanted in (node.name.rstrip(".").lower(), node.base_name.lower()):
            return node
    return None


def handle_of(plan: Plan, node: Node) -> PeerId | None:
    """The peer of the plan that a node is; ``None``: the plan leaves it out."""
    return next((p for p, peer in plan.peers.items() if peer.node.id == node.id), None)


def taker(plan: Plan, ip: IPAddress) -> tuple[PeerId, str] | None:
    """Whom packets to an address go to, and by which prefix: the longest, as the datapath does."""
    best: tuple[int, PeerId, str] | None = None
    for peer, entry in plan.peers.items():
        for net in entry.entry.allowed:
            longer = best is None or net.prefixlen > best[0]
            if longer and net.version == ip.version and ip in net:
                best = net.prefixlen, peer, str(net)
    return None if best is None else best[1:]
