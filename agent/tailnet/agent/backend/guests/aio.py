"""``Guests``: names for peers that use us as their exit node.

::

    question ──► names that are not for guests: REFUSED
             ──► the host's own resolvers, as if there were no tailnet
             ──► where the host names none but us: the tailnet's resolvers

Our own names are not told, and no question goes to another exit node: it could come back.

Source: tailscale ipn/ipnlocal/peerapi.go replyToDNSQueries; net/dns/resolver/tsdns.go
HandlePeerDNSQuery.
"""

import logging
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

from tailnet.agent.addr import SERVICE_V4, SERVICE_V6, AddrPort, IPAddress
from tailnet.agent.backend.naming.aio import Naming
from tailnet.agent.backend.plan import Plan
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.message import REFUSED, Query, parse_question_untrusted, reply
from tailnet.agent.dns.names import ROOT
from tailnet.agent.filter.rules import TCP
from tailnet.agent.peerapi.aio import Caller
from tailnet.agent.tailcfg.dns import Resolver
from tailnet.agent.tailcfg.node import Node, Service
from tailnet.platform.interface import PlatformError

log = logging.getLogger("tailnet.guests")

# Who may reach these by TCP at port 53 may have names resolved.
_ANYWHERE = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("2000::")}  # noqa: S104 - as upstream asks
_DNS = 53


class Guests:
    """Belongs to one node.

    Args:
        naming: knows how the host resolves names without us.
        forwarder: asks others.
        at: the peer whose own address that is.
        plan, prefs, netmap: what is in force.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the node
        self,
        naming: Naming,
        forwarder: Forwarder,
        *,
        at: Callable[[IPAddress], Node | None],
        plan: Callable[[], Plan | None],
        prefs: Callable[[], Prefs],
        netmap: Callable[[], NetworkMap | None],
    ) -> None:
        self._naming = naming
        self._forwarder = forwarder
        self._at = at
        self._plan = plan
        self._prefs = prefs
        self._netmap = netmap

    def who(self, ip: IPAddress) -> Caller | None:
        """The peer at an address, and whether names are resolved for it."""
        node, plan, netmap = self._at(ip), self._plan(), self._netmap()
        if node is None or plan is None or netmap is None:
            return None
        me = netmap.self_node
        same_user = node.user == me.user and not node.tags and not me.tags
        far = _ANYWHERE[ip.version]
        passes = plan.filter.allows(ip.version, TCP, int(ip), int(far), _DNS)
        offers = self._prefs().offers_exit
        return Caller(node.name.removesuffix("."), same_user or (offers and passes))

    async def resolve(self, message: bytes) -> bytes:
        """The answer of others to a question of a guest.

        Raises:
            BadPacket: it is no question.
            OSError: nobody answers.
        """
        question = parse_question_untrusted(message)
        if self._is_private(question.name):
            return reply(question, REFUSED, authoritative=False)
        query = Query(question, message, tcp=True)
        forwarded = await self._forwarder.resolve(query, await self._resolvers())
        if forwarded.data is None:
            msg = "no resolver answers"
            raise OSError(msg)
        return forwarded.data

    def _is_private(self, name: str) -> bool:
        """Control keeps it from guests; an entry with a dot in front means all names below it.

        Source: tailscale tailcfg/tailcfg.go, DNSConfig.ExitNodeFilteredSet.
        """
        netmap = self._netmap()
        filtered = netmap.dns.exit_node_filtered_set if netmap is not None else None
        return any(
            name == entry or (entry.startswith(".") and name.endswith(entry))
            for entry in filtered or ()
        )

    async def _resolvers(self) -> tuple[Resolver, ...]:
        """The host's own, or those of the tailnet."""
        netmap = self._netmap()
        never = {SERVICE_V4, SERVICE_V6, *(netmap.self_node.ips() if netmap is not None else ())}
        try:
            servers = await self._naming.programs_ask()
        except PlatformError as error:
            log.debug("the host's resolvers are not known: %s", error)
            servers = ()
        if self._prefs().wants_exit_node:  # one on this host could ask that, and it us
            servers = tuple(ip for ip in servers if not ip.is_loopback)
        own = tuple(Resolver(addr=str(ip)) for ip in servers if ip not in never)
        if own:
            return own
        defaults = self._naming.compiled.routes.get(ROOT, ())
        return tuple(resolver for resolver in defaults if not resolver.addr.startswith("http://"))


def services(listening: Iterable[AddrPort]) -> tuple[Service, ...]:
    """What control tells peers of our PeerAPI.

    Source: tailscale ipn/ipnlocal/peerapi.go, peerAPIServicesLocked.
    """
    found = [Service(proto=f"peerapi{at.ip.version}", port=at.port) for at in listening]
    proxy = [Service(proto="peerapi-dns-proxy", port=1)] if found else []
    return (*found, *proxy)
