"""Which prefixes go into the tunnel: every peer's share, counted.

Two peers may have one prefix, so a peer that goes takes a route with it only when it was the last.

Source: tailscale ipn/ipnlocal/local.go, peerRoutes, routerConfigLocked.
"""

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import NamedTuple

from tailnet.agent.addr import CGNAT, SERVICE_V4, SERVICE_V6, ULA, IPNetwork
from tailnet.agent.backend.attributes import attributes_of
from tailnet.agent.backend.exitnode import EVERYTHING
from tailnet.agent.tailcfg.node import Node
from tailnet.platform.interface import RouterConfig

MAX_PEER_ROUTES = 10_000  # own IPv4 addresses of peers; beyond, one route for all of CGNAT
FEW_PEER_ROUTES = 9_000  # from there on back to one for each: not to and fro at the border
MAX_GONE = 1_024  # addresses of peers that are gone
SERVICES = (ip_network(SERVICE_V4), ip_network(SERVICE_V6))


class Share(NamedTuple):
    """What one peer adds to the routes.

    Attributes:
        own: its own IPv4 addresses.
        others: its range of IPv6.
        subnets: what it leads to.
        barred: its own IPv4 addresses, if it cannot be talked to.
    """

    own: tuple[IPNetwork, ...] = ()
    others: tuple[IPNetwork, ...] = ()
    subnets: tuple[IPNetwork, ...] = ()
    barred: tuple[IPNetwork, ...] = ()


NOTHING = Share()
ULA_ALONE = (ULA,)  # ``others`` of nearly all peers


class Routes:
    """The shares of all peers, and what they amount to."""

    def __init__(self) -> None:
        self._own: dict[IPNetwork, int] = {}
        self._own_elsewhere: dict[IPNetwork, int] = {}  # as ``own``, those outside of CGNAT
        self._others: dict[IPNetwork, int] = {}
        self._in_ula = 0  # of these, peers with ``ULA_ALONE``, which is not hashed for each
        self._subnets: dict[IPNetwork, int] = {}
        self._barred: dict[IPNetwork, int] = {}
        self._gone: dict[IPNetwork, None] = {}  # oldest first
        self._many = False
        self._one_route = False
        self._made: RouterConfig | None = None
        self._led: tuple[RouterConfig, bool, RouterConfig] | None = None
        self._self_node: Node | None = None
        self._local: frozenset[IPv4Interface | IPv6Interface] = frozenset()

    def clear(self) -> None:
        """No peers."""
        for counter in (
            self._own,
            self._own_elsewhere,
            self._others,
            self._subnets,
            self._barred,
        ):
            counter.clear()
        self._in_ula = 0
        self._made = None

    def replace(self, old: Share, new: Share) -> None:
        """A peer's share is another now."""
        if old is NOTHING:
            self._made = None
            self._note(new, +1)
        elif old != new:
            self._made = None
            self._note(old, -1)
            self._note(new, +1)
            for route in old.own:
                self._gone.pop(route, None)
                self._gone[route] = None
            while len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]

    def _note(self, share: Share, sign: int) -> None:
        for route in share.own:
            _count(self._own if _in_cgnat(route) else self._own_elsewhere, route, sign)
        if share.others is ULA_ALONE:
            self._in_ula += sign
        else:
            for route in share.others:
                _count(self._others, route, sign)
        for route in share.subnets:
            _count(self._subnets, route, sign)
        for route in share.barred:
            _count(self._barred, route, sign)

    def config(self, self_node: Node) -> RouterConfig:
        """Addresses and routes; the same object as long as nothing changes."""
        if self_node is not self._self_node:
            own = self_node.address_prefixes()
            self._self_node = self_node
            self._local = frozenset(ip_interface(p) for p in own if _is_single(p))
            one_route = attributes_of(self_node).one_route
            if one_route is not self._one_route:
                self._one_route, self._made = one_route, None
        last, local = self._made, self._local
        if last is None or last.local_addrs != local:
            peers = len(self._own) + len(self._own_elsewhere)
            self._many = peers > (FEW_PEER_ROUTES if self._many else MAX_PEER_ROUTES)
            one = self._many or (self._one_route and bool(self._own))
            of_peers = (CGNAT,) if one else self._own
            # one pass over 10,000 whose hashes are known
            routes = _services(local).union(
                of_peers,
                self._own_elsewhere,
                self._others,
                ULA_ALONE if self._in_ula else (),
                self._subnets,
            )
            # a peer's subnet never takes the place of a link that the host itself has
            self._made = last = RouterConfig(
                local, routes, blocked=self._blocked(), lan_direct=bool(self._subnets)
            )
        return last

    def led_to_exit(self, self_node: Node, *, lan: bool) -> RouterConfig:
        """As :meth:`config`, but :func:`with_exit_node`."""
        router, led = self.config(self_node), self._led
        if led is None or led[0] is not router or led[1] is not lan:
            self._led = led = (router, lan, with_exit_node(router, lan=lan))
        return led[2]

    def _blocked(self) -> frozenset[IPNetwork]:
        """Addresses of peers that are gone or out of reach.

        What is for them must not go to whoever has the default route.  All of CGNAT cannot be
        stopped: providers and clouds have addresses in it that this host may need.
        """
        nobody = frozenset(self._gone).union(self._barred)  # by hashes that are known, as above
        return nobody.difference(self._own).difference(self._own_elsewhere)


def with_exit_node(router: RouterConfig, *, lan: bool) -> RouterConfig:
    """Everything goes into the tunnel, there or not; ``lan``: but not what the links have."""
    routes = router.routes.union(EVERYTHING)
    return replace(router, routes=routes, lan_direct=lan, leak_guard=True)


def _services(local: frozenset[IPv4Interface | IPv6Interface]) -> frozenset[IPNetwork]:
    """Routes to the daemon's own services, for the families we have."""
    families = {address.version for address in local}
    return frozenset(net for net in SERVICES if net.version in families)


_CGNAT_SHIFT = CGNAT.max_prefixlen - CGNAT.prefixlen
_CGNAT_TOP = int(CGNAT.network_address) >> _CGNAT_SHIFT


def _in_cgnat(prefix: IPNetwork) -> bool:
    return (
        prefix.version == 4
        and prefix.prefixlen >= CGNAT.prefixlen
        and int(prefix.network_address) >> _CGNAT_SHIFT == _CGNAT_TOP
    )


def _count(counter: dict[IPNetwork, int], route: IPNetwork, sign: int) -> None:
    known = len(counter)
    count = counter.setdefault(route, sign)  # hashing a network is the dearest part
    if len(counter) > known:
        return
    if count + sign:
        counter[route] = count + sign
    else:
        del counter[route]


def _is_single(prefix: IPNetwork) -> bool:
    return prefix.prefixlen == prefix.max_prefixlen
