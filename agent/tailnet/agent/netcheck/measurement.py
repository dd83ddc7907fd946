"""One measurement of the network: STUN from the data socket, and what stands in for it.

::

    STUN ──enough answers, or 3 s with one──────────────────────────► done
      │ 0.2 s without an answer, in a full one: CheckPortal              ▲
      └──no answer: AskOtherwise──► FALLBACK ──all that was asked, 5 s──┘

Source: tailscale net/netcheck/netcheck.go GetReport, runProbe, probeWouldHelp, addNodeLatency.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from enum import Enum, auto
from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.netcheck.plan import Plan
from tailnet.agent.netcheck.report import Report
from tailnet.agent.stun.messages import TXID_LEN, encode_request, parse_response_untrusted
from tailnet.agent.tailcfg.derpmap import DERPNode

REPORT_TIMEOUT = 5.0  # s for the whole measurement
STUN_TIMEOUT = 3.0  # s for its first part
PORTAL_DELAY = 0.2  # s without an answer after which a captive portal is looked for
SETTLE = 0.1  # s from the start, or a last try, that slower servers get at least
ENOUGH_REGIONS = 3

Addresses = Mapping[tuple[DERPNode, int], AddrPort]
"""Where the STUN servers are, by node and IP version."""


class AskOtherwise(NamedTuple):
    """UDP is blocked: measure these regions by HTTPS, and by ICMP if that is allowed.

    Each finding goes to :meth:`Measurement.handle_latency`, the end to ``handle_asked``.
    """

    regions: list[int]
    icmp: bool = True


class CheckPortal(NamedTuple):
    """Look for a captive portal, and tell :meth:`Measurement.handle_portal`."""


Wish = AskOtherwise | CheckPortal


class _Part(Enum):
    STUN = auto()
    FALLBACK = auto()
    DONE = auto()


class _Series:
    """Tries at one region over one family."""

    __slots__ = ("over", "tries", "waiting")

    def __init__(self, tries: deque[tuple[float, AddrPort]]) -> None:
        self.tries = tries
        self.waiting = 0
        self.over = not tries


class Measurement:
    """Asks as planned and waits for answers, each try with a transaction of its own."""

    def __init__(  # noqa: PLR0913 - what is asked, and by which clock
        self,
        plan: Plan,
        addresses: Addresses,
        regions: Collection[int],
        now: float,
        random_bytes: Callable[[int], bytes],
        *,
        full: bool,
        only_https: bool = False,
    ) -> None:
        """Begins at once.

        Args:
            plan: what to ask when; servers without an address are left out.
            addresses: of the servers.
            regions: to be measured otherwise if UDP is blocked.
            now: seconds.
            random_bytes: that many of them.
            full: all regions are asked, so the slower ones get more time.
            only_https: ICMP and port 80 must not be tried either; the plan is empty then.
        """
        self._start = now
        self._random_bytes = random_bytes
        self._regions = regions
        self._full = full
        self._wants_portal = full and not only_https
        self._only_https = only_https
        self._series = {
            key: _Series(
                deque(
                    (now + probe.delay, addresses[probe.node, key[1]])
                    for probe in probes
                    if (probe.node, key[1]) in addresses
                )
            )
            for key, probes in plan.items()
        }
        self._stun_regions = {r for (r, _), series in self._series.items() if not series.over}
        self._last_try: dict[int, float] = {}  # of each IP version
        for (_, version), series in self._series.items():
            if series.tries:
                last = max(series.tries[-1][0], self._last_try.get(version, now))
                self._last_try[version] = last
        self._asked = bool(self._stun_regions)
        self._sent: dict[bytes, tuple[tuple[int, int], AddrPort, float]] = {}
        self._out: deque[tuple[AddrPort, bytes]] = deque()
        self._wishes: deque[Wish] = deque()
        self._sends: Counter[int] = Counter()
        self._part = _Part.STUN
        self._latency: dict[tuple[int, int], float] = {}
        self._pinged: dict[tuple[int, int], float] = {}  # by ICMP
        self._answers: dict[AddrPort, AddrPort] = {}  # server: where it saw us, in order of time
        self._enough_at: float | None = None
        self._icmp: bool | None = None
        self._portal: bool | None = None
        self._portal_asked = self._portal_pending = False
        self._otherwise_pending = False
        self._advance(now)

    @property
    def done(self) -> bool:
        """Nothing more will be found."""
        return self._part is _Part.DONE

    # --- input

    def handle_response_untrusted(self, data: bytes, now: float) -> None:
        """A STUN response came; only its transaction says from whom.

        Raises:
            BadPacket: not a response, or not to a question of this measurement.
        """
        txid, seen = parse_response_untrusted(data)
        if txid not in self._sent:
            msg = "STUN response to nothing we asked"
            raise BadPacket(msg)
        key, server, at = self._sent.pop(txid)
        self._note(key, now - at)
        self._answers.setdefault(server, seen)
        self._series[key].over = True
        answered = {r for r, _ in self._latency} & self._stun_regions
        if self._enough_at is None and len(answered) >= min(
            len(self._stun_regions), ENOUGH_REGIONS
        ):
            self._enough_at = now
        self._advance(now)

    def send_failed(self, addr: AddrPort, now: float) -> None:
        """The kernel has no way to this address."""
        lost = [txid for txid, (_, server, _) in self._sent.items() if server == addr]
        for txid in lost:
            series = self._series[self._sent.pop(txid)[0]]
            series.waiting -= 1
            self._sends[addr.ip.version] -= 1
        for series in self._series.values():
            kept = deque(each for each in series.tries if each[1] != addr)
            if len(kept) < len(series.tries) or lost:
                series.tries = kept
                series.over = series.over or not (kept or series.waiting)
        self._advance(now)

    def handle_latency(self, region: int, version: int, seconds: float, *, icmp: bool) -> None:
        """A region answered otherwise; ``icmp`` tells pings from HTTPS."""
        if icmp:
            self._icmp = True
            self._pinged[region, version] = seconds
        else:
            self._note((region, version), seconds)

    def handle_asked(self, now: float) -> None:
        """No more of that will come."""
        self._otherwise_pending = False
        if not self._only_https:
            self._icmp = self._icmp or False
        self._advance(now)

    def handle_portal(self, portal: bool | None, now: float) -> None:
        """Whether there is a captive portal; ``None`` if nobody could be asked."""
        self._portal_pending = False
        self._portal = portal
        self._advance(now)

    def handle_timeout(self, now: float) -> None:
        """Ask again where no answer came."""
        self._advance(now)

    # --- output

    def poll_transmit(self) -> tuple[AddrPort, bytes] | None:
        """Next request to send, from the data socket."""
        return self._out.popleft() if self._out else None

    def poll_wish(self) -> Wish | None:
        """The next thing for the shell to find out."""
        return self._wishes.popleft() if self._wishes else None

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        match self._part:
            case _Part.DONE:
                return None
            case _Part.FALLBACK:
                return self._start + REPORT_TIMEOUT
            case _Part.STUN:
                wanted = [self._start + STUN_TIMEOUT]
                wanted += [s.tries[0][0] for s in self._series.values() if s.tries and not s.over]
                if self._wants_portal and not self._portal_asked and not self._answers:
                    wanted.append(self._start + PORTAL_DELAY)
                if (settled := self._settled_at()) is not None:
                    wanted.append(settled)
                return min(wanted)

    def report(self) -> Report:
        """What is known so far."""
        counters: Counter[AddrPort] = Counter(self._answers.values())  # in order of time
        first = {addr.ip.version: addr for addr in reversed(counters)}
        repeated = [addr for addr, times in counters.items() if times > 1]
        return Report(
            latency=self._latencies(),
            seen=tuple(dict.fromkeys([*(first[v] for v in sorted(first)), *repeated])),
            hard_nat=self._hard_nat(),
            asked=self._asked,
            udp=bool(self._answers),
            counters=tuple(counters.items()),
            can_send=frozenset(version for version, count in self._sends.items() if count > 0),
            icmp=self._icmp,
            portal=False if self._answers and self._full else self._portal,
        )

    # --- inside

    def _latencies(self) -> dict[tuple[int, int], float]:
        """Of regions that are of use: a relay that answers pings and no HTTPS relays nothing.

        Where none answers HTTPS they may all just be slow, and pings are better than nothing.
        """
        works = {region for region, _ in self._latency}
        latency = dict(self._latency)
        for key, seconds in self._pinged.items():
            if not works or key[0] in works:
                latency[key] = min(seconds, latency.get(key, seconds))
        return latency

    def _note(self, key: tuple[int, int], seconds: float) -> None:
        self._latency[key] = min(seconds, self._latency.get(key, seconds))

    def _hard_nat(self) -> bool | None:
        seen = [addr for addr in self._answers.values() if addr.ip.version == 4]
        return len(set(seen)) > 1 if len(seen) > 1 else None

    def _would_help(self, region: int, version: int) -> bool:
        if all(r != region for r, _ in self._latency):
            return True
        if version == 6:
            return all(v != 6 for _, v in self._latency)
        return self._hard_nat() is None

    def _advance(self, now: float) -> None:
        if self._part is _Part.STUN:
            for key, series in self._series.items():
                self._ask(key, series, now)
            if (
                self._wants_portal
                and not self._answers
                and now >= self._start + PORTAL_DELAY
                and not self._portal_asked
            ):
                self._check_portal()
            if self._stun_over(now):
                self._leave_stun()
        if self._part is _Part.FALLBACK and (
            now >= self._start + REPORT_TIMEOUT
            or not (self._otherwise_pending or self._portal_pending)
        ):
            self._part = _Part.DONE

    def _ask(self, key: tuple[int, int], series: _Series, now: float) -> None:
        while not series.over and series.tries and now >= series.tries[0][0]:
            _, addr = series.tries.popleft()
            if not self._would_help(*key):
                series.over = True
                return
            if series.tries and now >= series.tries[0][0]:
                continue  # we are late: one request will do
            txid = self._random_bytes(TXID_LEN)
            self._sent[txid] = (key, addr, now)
            self._sends[key[1]] += 1
            self._last_try[key[1]] = max(now, self._last_try[key[1]])  # we may be late
            series.waiting += 1
            self._out.append((addr, encode_request(txid)))

    def _stun_over(self, now: float) -> bool:
        settled = self._settled_at()
        return (
            all(series.over for series in self._series.values())
            or now >= self._start + STUN_TIMEOUT
            or (settled is not None and now >= settled)
        )

    def _leave_stun(self) -> None:
        wanted = [] if self._answers else sorted(self._regions)
        if not wanted:
            self._part = _Part.DONE
            return
        self._part = _Part.FALLBACK
        self._asked = self._otherwise_pending = True
        self._wishes.append(AskOtherwise(wanted, icmp=not self._only_https))
        if self._wants_portal and not self._portal_asked:
            self._check_portal()

    def _check_portal(self) -> None:
        self._portal_asked = self._portal_pending = True
        self._wishes.append(CheckPortal())

    def _settled_at(self) -> float | None:
        """When the answers there are will do [s]; ``None`` while too few came.

        An IP version that is silent has all its tries first.  Peers would not be told our address
        of it otherwise, and one lost datagram is no reason to be met by relay only.
        """
        if self._enough_at is None:
            return None
        slowest = max(self._latency.values()) * (2 if self._full else 1)
        silent = self._silent()
        waits = [self._last_try[version] + max(SETTLE, slowest) for version in silent]
        return max(self._start + SETTLE, self._enough_at + slowest, *waits)

    def _silent(self) -> set[int]:
        """IP versions that have not answered, and still may."""
        may = {version for (_, version), series in self._series.items() if not series.over}
        return may - {version for _, version in self._latency}
