"""One measurement of the network: STUN to some relays, from the data socket.

Source: tailscale net/netcheck/netcheck.go.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.stun.messages import TXID_LEN, encode_request, parse_response_untrusted
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

TRIES = (0.0, 0.1, 0.2, 1.0, 2.0)  # seconds after the start; a server that answered is left alone
TIMEOUT = 3.0  # seconds for the whole measurement
SETTLE = 0.3  # seconds at least that slower servers get once enough have answered
ENOUGH_REGIONS = 3
MAX_TARGETS = 128
FULL_EVERY = 300.0  # seconds between measurements of all regions; others take the fastest
FASTEST = 3


class Target(NamedTuple):
    """A STUN server of a region."""

    region: int
    addr: AddrPort


class Report(NamedTuple):
    """What was found.

    Attributes:
        latency: seconds by (region, IP version).
        seen: our addresses as seen from outside: the fastest answer's of each family, then those
            that several servers saw.
        hard_nat: two servers saw different IPv4 addresses; ``None`` if fewer than two answered.
        asked: a server was asked at all.
    """

    latency: dict[tuple[int, int], float]
    seen: tuple[AddrPort, ...]
    hard_nat: bool | None
    asked: bool

    def by_region(self) -> dict[int, float]:
        """Latency [s] of each region that answered, by its faster family."""
        best: dict[int, float] = {}
        for (region, _), latency in self.latency.items():
            best[region] = min(latency, best.get(region, latency))
        return best


def stun_node(region: DERPRegion) -> DERPNode | None:
    """The server to ask in a region: the first that speaks STUN."""
    return next((n for n in region.nodes or () if n.stun_port >= 0), None)


def regions_to_ask(
    derp_map: DERPMap, history: dict[int, float], home: int, *, full: bool
) -> list[int]:
    """Regions worth measuring, in order of preference; ``history`` is latency [s] by region."""
    regions = {
        r: region
        for r, region in (derp_map.regions or {}).items()
        if region is not None and not region.no_measure_no_home and stun_node(region) is not None
    }
    known = sorted((r for r in regions if r in history), key=lambda r: (history[r], r))
    if full or not known:
        return known + sorted(r for r in regions if r not in history)
    fastest = [r for r in known if r == home or not regions[r].avoid][:FASTEST]
    return list(dict.fromkeys([*fastest, *([home] if home in regions else [])]))


class _Probe:
    """What happened with one target."""

    __slots__ = ("failed", "latency", "seen", "tries")

    def __init__(self) -> None:
        self.tries = 0
        self.latency: float | None = None
        self.seen: AddrPort | None = None
        self.failed = False


class Measurement:
    """Asks the targets and waits for answers, each try with a transaction of its own.

    Attributes:
        done: all answered, enough did, or the time is up.
    """

    def __init__(
        self, targets: Sequence[Target], now: float, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._start = now
        self._random_bytes = random_bytes
        self._probes = {t: _Probe() for t in targets[:MAX_TARGETS]}
        self._sent: dict[bytes, tuple[Target, float]] = {}
        self._out: deque[tuple[AddrPort, bytes]] = deque()
        self.done = False
        self.handle_timeout(now)

    def handle_response_untrusted(self, data: bytes, now: float) -> None:
        """A STUN response came; only its transaction says from whom.

        Raises:
            BadPacket: not a response, or not to a question of this measurement.
        """
        txid, seen = parse_response_untrusted(data)
        if txid not in self._sent:
            msg = "STUN response to nothing we asked"
            raise BadPacket(msg)
        target, at = self._sent[txid]
        probe = self._probes[target]
        if probe.latency is None:
            probe.latency = now - at
            probe.seen = seen
        self._check(now)

    def send_failed(self, addr: AddrPort, now: float) -> None:
        """The kernel has no way to this address."""
        for target, probe in self._probes.items():
            if target.addr == addr:
                probe.failed = True
        self._check(now)

    def handle_timeout(self, now: float) -> None:
        """Ask again where no answer came."""
        for target, probe in self._probes.items():
            if probe.latency is None and not probe.failed:
                self._ask(target, probe, now)
        self._check(now)

    def poll_transmit(self) -> tuple[AddrPort, bytes] | None:
        """Next request to send, from the data socket."""
        return self._out.popleft() if self._out else None

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        if self.done:
            return None
        wanted = [self._start + TIMEOUT]
        wanted += [
            self._start + TRIES[probe.tries]
            for probe in self._probes.values()
            if probe.latency is None and not probe.failed and probe.tries < len(TRIES)
        ]
        if (settled := self._settled_at()) is not None:
            wanted.append(settled)
        return min(wanted)

    def report(self) -> Report:
        """What is known so far."""
        answers = sorted(
            ((p.latency, t, p.seen) for t, p in self._probes.items() if p.latency is not None),
            key=lambda a: a[0],
        )
        latency: dict[tuple[int, int], float] = {}
        times: Counter[AddrPort] = Counter()
        first: dict[int, AddrPort] = {}
        for seconds, target, seen in answers:
            latency.setdefault((target.region, target.addr.ip.version), seconds)
            if seen is not None:
                times[seen] += 1
                first.setdefault(seen.ip.version, seen)
        best = [first[v] for v in sorted(first)]
        repeated = [a for a, n in times.items() if n > 1]
        v4 = [a for a in times if a.ip.version == 4]
        answers4 = sum(times[a] for a in v4)
        return Report(
            latency=latency,
            seen=tuple(dict.fromkeys(best + repeated)),
            hard_nat=len(v4) > 1 if answers4 > 1 else None,
            asked=bool(self._probes),
        )

    def _ask(self, target: Target, probe: _Probe, now: float) -> None:
        due = False
        while probe.tries < len(TRIES) and now >= self._start + TRIES[probe.tries]:
            probe.tries += 1
            due = True
        if due:
            txid = self._random_bytes(TXID_LEN)
            self._sent[txid] = (target, now)
            self._out.append((target.addr, encode_request(txid)))

    def _settled_at(self) -> float | None:
        """When the answers there are will do [s]; ``None`` while too few came."""
        regions = {t.region for t, p in self._probes.items() if not p.failed}
        answered = {t.region for t, p in self._probes.items() if p.latency is not None}
        if not answered or len(answered) < min(len(regions), ENOUGH_REGIONS):
            return None
        slowest = max(p.latency for p in self._probes.values() if p.latency is not None)
        return self._start + max(SETTLE, 2 * slowest)

    def _check(self, now: float) -> None:
        waiting = any(p.latency is None and not p.failed for p in self._probes.values())
        settled = self._settled_at()
        self.done = (
            not waiting or now >= self._start + TIMEOUT or (settled is not None and now >= settled)
        )
