"""Who is told our disco key, and how often."""

from tailnet.agent.addr import parse_ip
from tailnet.agent.backend.adverts import AGAIN, Adverts
from tailnet.agent.backend.peerplan import PeerPlan
from tailnet.agent.datapath.interface import PeerEntry
from tailnet.agent.keys import DiscoPublic, NodePublic, PeerId
from tailnet.agent.magicsock.hub import PeerInfo
from tailnet.agent.tailcfg.node import Node, NodeID

ONE = PeerId(1)
KEY = NodePublic(b"k" * 32)


def node(*addresses: str) -> Node:
    """With these addresses."""
    return Node(id=NodeID(1), key=KEY, addresses=addresses)


def plan(of: Node, disco: bytes = b"d" * 32) -> PeerPlan:
    """A peer."""
    info = PeerInfo(KEY, DiscoPublic(disco), (), 1, wireguard_only=False)
    return PeerPlan(of, KEY, PeerEntry(of.address_prefixes()), info)


def test_addresses_are_of_one_family() -> None:
    """IPv4 to IPv4, or IPv6 to IPv6; with neither in common there is no message."""
    own = node("100.64.0.1/32", "fd7a:115c:a1e0::1/128")
    six = plan(node("fd7a:115c:a1e0::2/128"))
    told = Adverts().tell(ONE, six, own, 0.0)
    assert told == (parse_ip("fd7a:115c:a1e0::1"), parse_ip("fd7a:115c:a1e0::2"))
    assert Adverts().tell(ONE, six, node("100.64.0.1/32"), 0.0) is None


def test_a_peer_without_disco_is_not_told() -> None:
    """It could do nothing with it."""
    own = node("100.64.0.1/32")
    assert Adverts().tell(ONE, plan(node("100.64.0.2/32"), bytes(32)), own, 0.0) is None


def test_a_peer_is_told_once_a_minute() -> None:
    """Until control speaks, which begins anew."""
    adverts, own = Adverts(), node("100.64.0.1/32")
    assert adverts.due(ONE, 0.0)
    adverts.tell(ONE, plan(node("100.64.0.2/32")), own, 5.0)
    assert not adverts.due(ONE, 5.0 + AGAIN - 1)
    assert adverts.due(ONE, 5.0 + AGAIN)
    adverts.forget()
    assert adverts.due(ONE, 6.0)
