"""Which of the subnet routes that peers offer are used.

``RouteAll`` is upstream's switch, ``AcceptRoutes`` is ours and narrows it: if it is not empty, only
what one of its items names is used.

::

    192.0.2.0/24   routes inside of it; of a wider one, this part
    peer:NAME      all routes of the peer of this name, address or stable id
    tag:NAME       all routes of peers with this tag
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend.spelling import check_tag, parse_prefix
from tailnet.agent.errors import UserError
from tailnet.agent.tailcfg.node import Node

_SHOWN = 64  # characters of what somebody wrote, in an error


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The user's wish.

    Attributes:
        on: any routes are used.
        prefixes, peers, tags: if there is any of these, only what they name.
    """

    on: bool = False
    prefixes: tuple[IPNetwork, ...] = ()
    peers: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()

    def of(self, node: Node, offers: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
        """What is used of a peer's ``offers``, in their order."""
        if not self.on:
            return ()
        if self._names(node) or not (self.prefixes or self.peers or self.tags):
            return tuple(offers)
        return tuple(dict.fromkeys(part for offer in offers for part in self._parts(offer)))

    def _parts(self, offer: IPNetwork) -> list[IPNetwork]:
        """What the prefixes name of one offer; none of it twice."""
        parts = [_common(offer, wanted) for wanted in self.prefixes]
        found = sorted({p for p in parts if p is not None}, key=lambda net: net.prefixlen)
        return [p for n, p in enumerate(found) if not any(_common(p, q) for q in found[:n])]

    def _names(self, node: Node) -> bool:
        if not self.tags.isdisjoint(node.tags or ()):
            return True
        if not self.peers:
            return False
        names = {node.stable_id, node.name.rstrip("."), node.base_name, *map(str, node.ips())}
        return any(name.lower() in self.peers for name in names)


NO_ROUTES = Acceptance()


def parse_acceptance(items: Iterable[str], *, on: bool) -> Acceptance:
    """From the items of ``AcceptRoutes``.

    Raises:
        UserError: one of them is wrong.
    """
    prefixes, peers, tags = [], set(), set()
    for item in items:
        kind, _, name = item.partition(":")
        if kind == "tag":
            check_tag(item)
            tags.add(item)
        elif kind == "peer" and name and name.isprintable() and " " not in name:
            peers.add(name.rstrip(".").lower())
        else:
            prefixes.append(_prefix(item))
    return Acceptance(on, tuple(prefixes), frozenset(peers), frozenset(tags))


def _prefix(text: str) -> IPNetwork:
    """What is neither a peer nor a tag."""
    if "/" not in text:
        msg = (
            f"bad item {text[:_SHOWN]!r} in accept-routes: it is a prefix such as 192.0.2.0/24, "
            "peer:NAME or tag:NAME; or true or false alone"
        )
        raise UserError(msg)
    prefix = parse_prefix(text)
    if not prefix.prefixlen:
        msg = f"{text} in accept-routes: for all routes give true, for the internet --exit-node"
        raise UserError(msg)
    return prefix


def _common(one: IPNetwork, other: IPNetwork) -> IPNetwork | None:
    """What two prefixes have in common: the longer one, or nothing."""
    long, short = (one, other) if one.prefixlen >= other.prefixlen else (other, one)
    inside = long.version == short.version and long.network_address in short
    return long if inside else None
