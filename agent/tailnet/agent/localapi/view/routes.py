"""The routes of the tailnet, as the LocalAPI shows them."""

from collections.abc import Iterable

from tailnet.agent.backend.routetable import USED, RouteFact, Verdict
from tailnet.agent.localapi.schema.network import RouteEntry

_WHY = {
    Verdict.OFF: "accept-routes is false",
    Verdict.NOT_NAMED: "accept-routes does not name it",
    Verdict.UNREACHABLE: "the peer's key has expired, or there is no way to it",
    Verdict.EXIT_OFFER: "use it with: tnet set --exit-node=NAME",
    Verdict.UNAPPROVED: "the control server lets nobody use it yet; approve it there",
}


def entries(facts: Iterable[RouteFact], own_id: int) -> tuple[RouteEntry, ...]:
    """One for each route; ``own_id`` is this machine."""
    return tuple(
        RouteEntry(
            prefix=str(fact.prefix),
            peer="" if fact.node.id == own_id else fact.node.base_name,
            peer_id="" if fact.node.id == own_id else fact.node.stable_id,
            verdict=fact.verdict.value,
            used=fact.verdict in USED,
            parts=tuple(map(str, fact.parts)),
            why=_why(fact),
        )
        for fact in facts
    )


def _why(fact: RouteFact) -> str:
    if fact.other is not None:
        return f"{fact.other.base_name} has it"
    if fact.direct:
        nets = ", ".join(map(str, fact.direct))
        return f"this machine's own network is reached directly: {nets}"
    return _WHY.get(fact.verdict, "")
