"""Why a peer's path is as it is, for people."""

from typing import NamedTuple

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.datapath.interface import Path
from tailnet.agent.magicsock.candidate import Candidate, Pong
from tailnet.agent.magicsock.choice import Quality, points
from tailnet.agent.magicsock.chosen import TRUST_DURATION
from tailnet.agent.magicsock.path import PeerPath
from tailnet.agent.magicsock.peers import Peer, Policy, Switch


class CandidateReport(NamedTuple):
    """One address of a peer.

    Attributes:
        addr: the address, or a session at a peer relay.
        sources: why we believe in it.
        pinged_at: when it was pinged last [s].
        pongs: its last answers, latest last.
        wire_mtu: largest IP packet that was answered [bytes]; 0 if sizes are not tried.
        used: packets go there now.
        verdict: why it won, or lost.
    """

    addr: AddrPort | ViaAddr
    sources: tuple[str, ...]
    pinged_at: float | None
    pongs: tuple[Pong, ...]
    wire_mtu: int
    used: bool
    verdict: str


class PathReport(NamedTuple):
    """All about the ways to one peer; times in seconds of the clock.

    Attributes:
        policy: what the user allows.
        path: where packets go now.
        trusted_until: when the direct path needs another pong; ``None`` if it is not trusted.
        region: the relay that leads to it, 0 if none.
        candidates: those in use first, then by latency.
        switches: changes of the path since the start.
        history: the latest of them, oldest first.
    """

    policy: Policy
    path: Path
    trusted_until: float | None
    region: int
    candidates: tuple[CandidateReport, ...]
    switches: int
    history: tuple[Switch, ...]


def report(peer: Peer, home: int) -> PathReport:
    """What is known of a peer's ways; ``home`` is our home region."""
    relay, machine = peer.relay(home), peer.machine
    found = []
    if machine is not None:
        for addr, candidate in machine.candidates.items():
            found.append(
                CandidateReport(
                    addr=addr,
                    sources=_sources(candidate),
                    pinged_at=candidate.pinged_at,
                    pongs=candidate.pongs,
                    wire_mtu=candidate.wire_mtu,
                    used=addr == peer.route.udp,
                    verdict=_verdict(addr, candidate, peer),
                )
            )
        if machine.best is not None and not machine.best.direct:
            found.append(_relayed(machine, machine.best, peer))
    else:
        asked = "it was not asked: " + ("nothing was sent yet" if peer.direct else _not_asked(peer))
        for addr in peer.info.endpoints:
            used = addr == peer.route.udp
            verdict = "the address control gave" if used else asked
            found.append(CandidateReport(addr, ("control",), None, (), 0, used, verdict))
    found.sort(key=lambda c: (not c.used, c.pongs[-1].latency if c.pongs else float("inf")))
    return PathReport(
        policy=peer.info.policy,
        path=peer.route,
        trusted_until=None if machine is None else machine.chosen.trusted_until,
        region=0 if relay is None else relay.region,
        candidates=tuple(found),
        switches=peer.switches,
        history=peer.history,
    )


def _relayed(machine: PeerPath, best: Quality, peer: Peer) -> CandidateReport:
    """The session at a peer relay that is in use, or was."""
    until = machine.chosen.trusted_until
    pongs = () if until is None else (Pong(until - TRUST_DURATION, best.latency),)
    verdict = f"won: {machine.chosen.why.value}"
    if until is None:
        verdict = f"not trusted, the relay is used too: {machine.chosen.why.value}"
    used = best.addr == peer.route.udp
    return CandidateReport(best.addr, ("a peer relay",), None, pongs, 0, used, verdict)


def _not_asked(peer: Peer) -> str:
    if peer.info.wireguard_only:
        return "a plain WireGuard host answers no pings"
    if not peer.discoverable:
        return "the peer has no disco key"
    return f"the policy is {peer.info.policy.value}"


def _sources(candidate: Candidate) -> tuple[str, ...]:
    claims = (
        (candidate.netmap, "control"),
        (candidate.called, "the peer's call"),
        (candidate.heard_at is not None, "heard from it"),
    )
    return tuple(words for claimed, words in claims if claimed)


def _verdict(addr: AddrPort, candidate: Candidate, peer: Peer) -> str:  # noqa: PLR0911 - a decision list
    machine, latency = peer.machine, candidate.latency
    best = None if machine is None else machine.best
    if machine is not None and best is not None and best.addr == addr:
        if machine.trusted:
            return f"won: {machine.chosen.why.value}"
        return f"not trusted, the relay is used too: {machine.chosen.why.value}"
    if not peer.direct:
        return f"it was not asked: {_not_asked(peer)}"
    if candidate.pinged_at is None and latency is None:
        return "it was not pinged yet"
    if latency is None or candidate.answered_at is None:
        return "no answer"
    if candidate.pinged_at is not None and candidate.pinged_at > candidate.answered_at:
        return "no answer to the last ping"
    if best is None or not best.direct:
        return "it answered, but was not heard since the path was lost"
    return _compare(Quality(addr, latency, candidate.wire_mtu), best)


def _compare(loser: Quality, best: Quality) -> str:
    mine, its = points(loser, best)
    times = f"{loser.latency * 1e3:.1f} ms against {best.latency * 1e3:.1f} ms"
    if mine > its and mine <= 1:
        return f"lost: a lead of one point is not enough ({times})"
    if mine > its:
        return f"better by {mine} points to {its} ({times}); takes over at its next pong"
    return f"lost by {mine} points to {its}: {times}, with bonus for near networks and IPv6"
