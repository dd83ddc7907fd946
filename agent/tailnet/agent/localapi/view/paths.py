"""The ways to peers, as the LocalAPI shows them."""

from collections.abc import Callable

from msgspec import structs

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.datapath.interface import Path
from tailnet.agent.localapi.schema.paths import PathCandidate, PathDetails, PathSwitch
from tailnet.agent.magicsock.report import CandidateReport, PathReport
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import Node


def summary(node: Node, about: PathReport, relays: DERPMap, mapped: AddrPort | None) -> PathDetails:
    """Without candidates and history; ``mapped``: where the router lets datagrams in for us."""
    region = relays.region(about.region)
    used = next((c for c in about.candidates if c.used and c.pongs), None)
    return PathDetails(
        id=node.stable_id,
        name=node.base_name,
        policy=about.policy.value,
        kind=kind(about.path),
        addr=str(about.path.udp or ""),
        relay=region.region_code if region else "",
        latency_seconds=used.pongs[-1].latency if used else None,
        port_mapped=bool(used and mapped is not None and used.pongs[-1].seen == mapped),
        switches=about.switches,
    )


def details(
    node: Node,
    about: PathReport,
    relays: DERPMap,
    mapped: AddrPort | None,
    age_of: Callable[[float], float],
) -> PathDetails:
    """Everything; ``age_of`` makes seconds ago of a time of the clock."""
    until = about.trusted_until
    return structs.replace(
        summary(node, about, relays, mapped),
        trusted_for=None if until is None else max(0.0, -age_of(until)),
        candidates=tuple(_candidate(c, age_of) for c in about.candidates),
        history=tuple(
            PathSwitch(age=age_of(at), path=words(path), why=why) for at, path, why in about.history
        ),
    )


def _candidate(about: CandidateReport, age_of: Callable[[float], float]) -> PathCandidate:
    pongs, pinged = about.pongs, about.pinged_at
    return PathCandidate(
        addr=str(about.addr),
        sources=about.sources,
        used=about.used,
        verdict=about.verdict,
        pongs=tuple(p.latency for p in pongs),
        last_pong_age=age_of(pongs[-1].at) if pongs else None,
        last_ping_age=None if pinged is None else age_of(pinged),
        wire_mtu=about.wire_mtu,
    )


def kind(path: Path) -> str:
    """In one word."""
    if path.udp is None:
        return "relay" if path.relay else "none"
    if isinstance(path.udp, ViaAddr):
        return "peer-relay-and-relay" if path.relay else "peer-relay"
    return "both" if path.relay else "direct"


def words(path: Path) -> str:
    """For a line of the history."""
    named = {"relay": "relay", "none": "no way"}
    short = kind(path)
    if short in named:
        return named[short]
    through = "peer relay " if isinstance(path.udp, ViaAddr) else ""
    return f"{through}{path.udp}{' and relay' if path.relay else ''}"
