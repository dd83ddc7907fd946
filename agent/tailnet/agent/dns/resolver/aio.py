"""``MagicDns``: answers queries, from memory, from what it knows, or by asking others."""

import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.dns.forward.aio import Forwarded, Forwarder, ended
from tailnet.agent.dns.local import Answer, Forward, LocalNames, Outcome, Records
from tailnet.agent.dns.memo import Memo
from tailnet.agent.dns.message import (
    AAAA,
    SERVFAIL,
    A,
    Query,
    addresses_untrusted,
    formerr_untrusted,
    parse_question_untrusted,
    query_untrusted,
    reply,
    truncated,
)
from tailnet.agent.dns.metrics import GUESTS, metrics
from tailnet.agent.dns.names import Name, NodeNames
from tailnet.agent.dns.upstream import Https, Plain, is_loopback
from tailnet.agent.errors import BadPacket
from tailnet.agent.later import Later
from tailnet.agent.slices import Steps, finish
from tailnet.agent.tailcfg.dns import Resolver
from tailnet.agent.tailcfg.node import Node, NodeID

log = logging.getLogger("tailnet.dns")

LOOP = 64  # times that one question is at this host's own resolvers at once: then it is a loop


class Explained(NamedTuple):
    """An answer, and where it is from.

    Attributes:
        data: the whole answer; ``None``: nobody gave one.
        why: the rule, or which suffix decided whom to ask.
        resolvers: who was to be asked; none if we knew it ourselves.
        server: who answered, empty if we did.
    """

    data: bytes | None
    why: str
    resolvers: tuple[Resolver, ...] = ()
    server: str = ""


class MagicDns:
    """A handler of queries.

    Args:
        forwarder: asks others.
        wall_clock: Unix time [s].
        on_health: what :attr:`problem` or :attr:`looping` says has changed.

    Attributes:
        failing: the last question that was forwarded got no answer at all; whom it was asked of.
        looping: questions that we forward to this host's own resolvers come back to us.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        wall_clock: Callable[[], float],
        on_health: Callable[[], None] = lambda: None,
    ) -> None:
        self._forwarder = forwarder
        self._nodes = NodeNames()
        self._names = LocalNames(self._nodes, wall_clock)
        self._memo = Memo()
        self._outcomes: Counter[Outcome] = Counter()
        self._counted: Counter[str] = Counter()
        self._home: frozenset[Name] = frozenset()  # suffixes whose resolvers are on this host
        self._at_home: Counter[bytes] = Counter()  # questions that are there
        self.on_health = on_health
        self.failing = ""
        self.looping = False

    @property
    def forwarder(self) -> Forwarder:
        """Asks others."""
        return self._forwarder

    # --- what it knows

    def set_nodes(
        self, own: Node, peers: Mapping[NodeID, Node], changed: Collection[NodeID] | None
    ) -> None:
        """Names of this node and its peers; ``changed``: only these peers; ``None``: any."""
        finish(self.set_nodes_slices(own, peers, changed))

    def set_nodes_slices(
        self, own: Node, peers: Mapping[NodeID, Node], changed: Collection[NodeID] | None
    ) -> Steps[None]:
        """:meth:`set_nodes` in slices."""
        if changed is None:
            nodes = sorted(peers.values(), key=lambda peer: peer.id)
            news = yield from self._nodes.set_nodes_slices((own, *nodes))
        else:
            news = self._nodes.change({node_id: peers.get(node_id) for node_id in changed})
        if self._nodes.set_self(own) or news:
            self._memo.forget()

    def configure(
        self, records: Records, routes: Mapping[Name, tuple[Resolver, ...]], suffix: Name
    ) -> None:
        """See ``LocalNames.configure``."""
        self._names.configure(records, routes, suffix)
        self._home = frozenset(
            name for name, resolvers in routes.items() if any(map(is_loopback, resolvers))
        )
        self._memo.forget()
        self._say_health("", looping=False)

    def set_own(self, records: Records) -> None:
        """See ``LocalNames.set_own``."""
        self._names.set_own(records)
        self._memo.forget()

    def forget(self) -> None:
        """There is no tailnet; until :meth:`configure` says so too, others are asked as before."""
        self._nodes.set_nodes(())
        self._memo.forget()

    # --- queries

    def __call__(
        self, query: bytes, src: AddrPort, *, tcp: bool
    ) -> bytes | Awaitable[bytes | None] | None:
        """The answer, now if we know it; ``None`` if the query deserves none."""
        del src
        known = None if tcp else self._memo.answer(query)
        if known is not None:
            data, outcome = known
            self._outcomes[outcome] += 1
            return data
        try:
            question = parse_question_untrusted(query)
        except BadPacket:
            self._counted["respond_error_parse"] += 1
            return formerr_untrusted(query) or None
        decided = self._names.decide(question)
        if isinstance(decided, Forward):
            return self._forward(Query(question, query, tcp), decided)
        self._outcomes[decided.outcome] += 1
        if tcp:
            return decided.data
        data = truncated(decided.data, question.limit)
        self._memo.learn(query, data, decided.outcome)
        return data

    async def explain(self, query: bytes) -> Explained:
        """Answer a query of our own, without bounds of size.

        Raises:
            BadPacket: it is none.
        """
        question = parse_question_untrusted(query)
        decided = self._names.decide(question)
        if isinstance(decided, Answer):
            return Explained(decided.data, decided.why)
        answered = await ended(partial(self._ask, Query(question, query, tcp=True), decided))
        suffix = decided.suffix or "."
        why = f"resolvers for {suffix}"
        return Explained(answered.data, why, decided.resolvers, _server_text(answered.server))

    async def addresses(self, name: Name) -> tuple[IPAddress, ...] | None:
        """Of a name, by our rules; ``None``: we neither know it nor whom to ask."""
        queries = [query_untrusted(name, qtype) for qtype in (A, AAAA)]
        questions = [parse_question_untrusted(query) for query in queries]
        decided = [self._names.decide(question) for question in questions]
        found: list[IPAddress] = []
        for answer, query, question in zip(decided, queries, questions, strict=True):
            if isinstance(answer, Answer) and answer.outcome is Outcome.NO_UPSTREAM:
                return None
            said: bytes | None = answer.data if isinstance(answer, Answer) else None
            if isinstance(answer, Forward):
                start = partial(self._ask, Query(question, query, tcp=False), answer)
                said = (await ended(start)).data
            with contextlib.suppress(BadPacket):
                found += addresses_untrusted(said or b"")
        return tuple(found)

    def count_guest(self, what: str) -> None:
        """One question of a peer, ``query``, or why it got no answer, ``error_…``."""
        self._counted[f"{GUESTS}{what}"] += 1

    def metrics(self) -> dict[str, int]:
        """Counters by upstream's names."""
        others = {f"fwd_{name}": n for name, n in self._forwarder.counters.items()}
        return metrics(self._outcomes, {**others, **self._counted})

    def drops(self) -> dict[str, int]:
        """What got no good answer, by reason: those of :meth:`metrics` that are errors."""
        counted = self.metrics().items()
        return {name.removeprefix("dns_query_"): n for name, n in counted if "_error_" in name}

    # --- inside

    def _forward(self, query: Query, decided: Forward) -> Later[bytes | None]:
        """What others say, cut to the client's measure."""
        said: Later[bytes | None] = Later()

        def answered(forwarded: Forwarded | None) -> None:
            data = None if forwarded is None else forwarded.data
            if data is not None and not query.tcp:
                short = truncated(data, query.question.limit)
                self._counted["fwd_truncated"] += short is not data
                data = short
            said.tell(data)

        said.stop = self._ask(query, decided, answered)
        return said

    def _ask(
        self, query: Query, decided: Forward, said: Callable[[Forwarded | None], None]
    ) -> Callable[[], None]:
        """Ask others; returns what stops it."""
        self._counted["fwd"] += 1
        key = query.question.wire.lower() if decided.suffix in self._home else b""
        if key and self._at_home[key] >= LOOP:
            self._counted["fwd_error_loop"] += 1
            self._say_health(self.failing, looping=True)
            said(Forwarded(reply(query.question, SERVFAIL), None))
            return lambda: None
        if key:
            self._at_home[key] += 1

        def answered(forwarded: Forwarded | None) -> None:
            if key:
                self._at_home[key] -= 1
                if not self._at_home[key]:
                    del self._at_home[key]
            if forwarded is not None:
                self._judge(forwarded, decided)
            said(forwarded)

        return self._forwarder.ask(query, decided.resolvers, answered)

    def _judge(self, forwarded: Forwarded, decided: Forward) -> None:
        if forwarded.server is not None:
            self._say_health("", looping=self.looping)
        elif forwarded.data is None:
            asked = ", ".join(resolver.addr for resolver in decided.resolvers)
            self._say_health(asked, looping=self.looping)

    def _say_health(self, failing: str, *, looping: bool) -> None:
        if (failing, looping) != (self.failing, self.looping):
            self.failing, self.looping = failing, looping
            self.on_health()


def _server_text(server: Plain | Https | None) -> str:
    if server is None:
        return ""
    return server.url if isinstance(server, Https) else str(server.to)
