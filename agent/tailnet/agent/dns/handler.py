"""Queries answered from what we know ourselves, without asking anybody."""

from collections.abc import Callable, Collection, Mapping

from tailnet.agent.addr import AddrPort
from tailnet.agent.dns.local import Answer, LocalNames
from tailnet.agent.dns.message import (
    REFUSED,
    formerr_untrusted,
    parse_question_untrusted,
    reply,
    truncated,
)
from tailnet.agent.dns.names import NodeNames
from tailnet.agent.dns.wanted import wanted_dns
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.node import Node, NodeID


class LocalHandler:
    """Handles queries; what somebody else would have to say is refused.

    Args:
        wall_clock: Unix time [s].
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._nodes = NodeNames()
        self._names = LocalNames(self._nodes, wall_clock)

    def learn(
        self,
        own: Node,
        peers: Mapping[NodeID, Node],
        dns: DNSConfig,
        changed: Collection[NodeID] | None,
        *,
        accept: bool,
    ) -> None:
        """A new network map.

        Args:
            own: our node.
            peers: all of them.
            dns: as received.
            changed: only these peers are not as before; ``None``: any.
            accept: the user lets the tailnet set DNS.
        """
        if changed is None:
            self._nodes.set_nodes((own, *peers.values()))
        else:
            self._nodes.change({node_id: peers.get(node_id) for node_id in changed})
        self._nodes.set_self(own)
        wanted = wanted_dns(dns, own, accept=accept)
        self._names.configure(wanted.records, wanted.routes, wanted.suffix)

    async def __call__(self, query: bytes, src: AddrPort, *, tcp: bool) -> bytes | None:
        """The answer; ``None`` if the query deserves none."""
        del src
        try:
            question = parse_question_untrusted(query)
        except BadPacket:
            return formerr_untrusted(query) or None
        decided = self._names.decide(question)
        if isinstance(decided, Answer):
            return decided.data if tcp else truncated(decided.data, question.limit)
        return reply(question, REFUSED, authoritative=False)
