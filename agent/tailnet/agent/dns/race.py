"""One question asked of several servers at once; the first good answer wins.

::

    client by UDP:  UDP ── 2 s without answer, or an error ──► TCP as well
    client by TCP:  UDP and TCP together; a truncated answer by UDP is only kept for want of better

"No" from one server (REFUSED, SERVFAIL) does not win while another may still know.  What comes from
elsewhere cannot: the id and the case of the letters are random for each server, and an answer must
repeat both.  A server that does not keep the case is asked again by TCP.

Source: tailscale net/dns/resolver/forwarder.go; draft-vixie-dnsext-dns0x20.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from string import ascii_letters
from typing import NamedTuple

from tailnet.agent.dns.message import (
    EDNS_SIZE,
    HEADER,
    QR,
    REFUSED,
    SERVFAIL,
    TC,
    Query,
    reply,
)
from tailnet.agent.dns.upstream import Https, Upstream

TIMEOUT = 10.0  # seconds for the question; then nothing is answered, and the client asks again
TCP_AFTER = 2.0  # seconds of silence by UDP
TRUTH = 1.0  # seconds that UDP has after an answer in the wrong case
TCP_TIMEOUT = 5.0  # seconds for one attempt by TCP or HTTPS

_FIXED = 4  # bytes of type and class after a name
_CASE = bytes(0x20 * (chr(byte) in ascii_letters) for byte in range(256))
"""The bit that makes a letter another one; lengths of labels are below all letters."""

_SOFT = frozenset({SERVFAIL, REFUSED})


class Way(Enum):
    """How a server is asked; the values are upstream's in its counters."""

    UDP = "udp"
    TCP = "tcp"
    HTTPS = "doh"


class Ask(NamedTuple):
    """Send ``data`` to upstream number ``upstream``."""

    upstream: int
    way: Way
    data: bytes


class _Attempt:
    """What is under way with one server."""

    __slots__ = ("data", "pending", "tcp_at", "tcp_tried", "until")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pending: set[Way] = set()
        self.until: dict[Way, float] = {}
        self.tcp_at: float | None = None
        self.tcp_tried = False


class Race:
    """The asking of one question, without I/O.

    After each call the owner takes everything from ``asks``; it is over when ``result`` is set or
    ``gave_up``.

    Args:
        query: from a client.
        servers: in order of their delays, at least one.
        random_bytes: source of randomness.
        now: seconds.
        counters: what became of each attempt, ``udp_success`` and the like.

    Attributes:
        asks: what to send.
        result: the answer for the client.
        winner: which upstream gave it.
        gave_up: the time is over and there is none.
    """

    __slots__ = (
        "_attempts",
        "_counters",
        "_data",
        "_end",
        "_failed",
        "_last_resort",
        "_question",
        "_random_bytes",
        "_refusal",
        "_servers",
        "_starts",
        "_tcp",
        "asks",
        "gave_up",
        "result",
        "winner",
    )

    def __init__(
        self,
        query: Query,
        servers: Sequence[Upstream],
        *,
        random_bytes: Callable[[int], bytes],
        now: float,
        counters: Counter[str] | None = None,
    ) -> None:
        self._counters: Counter[str] = Counter() if counters is None else counters
        self._question, self._data, self._tcp = query
        self._servers = servers
        self._random_bytes = random_bytes
        self._end = now + TIMEOUT
        self._starts = {n: now + server.delay for n, server in enumerate(servers)}
        self._attempts: dict[int, _Attempt] = {}
        self._refusal: bytes | None = None
        self._failed: bytes | None = None
        self._last_resort: tuple[bytes, int] | None = None
        self.asks: list[Ask] = []
        self.result: bytes | None = None
        self.winner: int | None = None
        self.gave_up = False
        self.handle_timeout(now)

    def handle_answer(self, upstream: int, way: Way, data: bytes, now: float) -> None:
        """Bytes came from where upstream ``upstream`` is; hostile until proven otherwise."""
        attempt = self._attempts.get(upstream)
        if attempt is None or way not in attempt.pending or self.result is not None:
            return
        mine, size = attempt.data, HEADER.size + len(self._question.wire)
        head, asked = data[: HEADER.size], data[HEADER.size : size]
        if len(data) < size or head[:2] != mine[:2] or not int.from_bytes(head[2:4]) & QR:
            self._count(way, "error_txid")
            return
        if asked != mine[HEADER.size : size]:
            self._count(way, "error_txid")
            if asked.lower() == mine[HEADER.size : size].lower():
                # A server that changes letters, or a forger: TCP knows, and the truth may yet come.
                attempt.until.setdefault(way, now + TRUTH)
                self._ask_tcp(upstream, attempt, now)
            return
        self._done(attempt, way)
        flags = int.from_bytes(head[2:4])
        answer = self._data[:2] + data[2 : HEADER.size] + self._question.wire + data[size:]
        if flags & 0xF in _SOFT:
            self._count(way, "error_refused" if flags & 0xF == REFUSED else "error_server")
            self._soft(answer, flags & 0xF)
        elif flags & TC and way is Way.UDP and self._tcp:
            self._last_resort = self._last_resort or (answer, upstream)
        else:
            self._count(way, "success")
            self.result, self.winner = answer, upstream
            return
        self._settle(now)

    def handle_failure(self, upstream: int, way: Way, now: float) -> None:
        """It cannot be asked this way: refused, unreachable, or what came makes no sense."""
        attempt = self._attempts.get(upstream)
        if attempt is None or way not in attempt.pending:
            return
        self._done(attempt, way)
        if way is Way.UDP:
            self._ask_tcp(upstream, attempt, now)
        self._settle(now)

    def handle_timeout(self, now: float) -> None:
        """Start what is due, forget what is late."""
        for upstream, at in list(self._starts.items()):
            if now >= at:
                del self._starts[upstream]
                self._start(upstream, now)
        for upstream, attempt in self._attempts.items():
            for way, until in list(attempt.until.items()):
                if now >= until:
                    self._done(attempt, way)
            if attempt.tcp_at is not None and now >= attempt.tcp_at:
                self._ask_tcp(upstream, attempt, now)
        self._settle(now)

    def deadline(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]; ``None`` when it is over."""
        if self.result is not None or self.gave_up:
            return None
        times = [self._end, *self._starts.values()]
        for attempt in self._attempts.values():
            times += attempt.until.values()
            times += [attempt.tcp_at] if attempt.tcp_at is not None else []
        return min(times)

    # --- inside

    def _start(self, upstream: int, now: float) -> None:
        attempt = self._attempts[upstream] = _Attempt(self._disguised())
        if isinstance(self._servers[upstream].server, Https):
            self._ask(upstream, attempt, Way.HTTPS, now)
            return
        self._ask(upstream, attempt, Way.UDP, now)
        if self._tcp:
            self._ask_tcp(upstream, attempt, now)
        else:
            attempt.tcp_at = now + TCP_AFTER

    def _ask_tcp(self, upstream: int, attempt: _Attempt, now: float) -> None:
        attempt.tcp_at = None
        if not attempt.tcp_tried:
            attempt.tcp_tried = True
            self._ask(upstream, attempt, Way.TCP, now)

    def _ask(self, upstream: int, attempt: _Attempt, way: Way, now: float) -> None:
        attempt.pending.add(way)
        if way is not Way.UDP:
            attempt.until[way] = now + TCP_TIMEOUT
        self._counters[way.value] += 1
        self.asks.append(Ask(upstream, way, attempt.data))

    def _count(self, way: Way, what: str) -> None:
        self._counters[f"{way.value}_{what}"] += 1

    def _done(self, attempt: _Attempt, way: Way) -> None:
        attempt.pending.discard(way)
        attempt.until.pop(way, None)
        if way is Way.TCP or not attempt.pending:
            attempt.tcp_at = None

    def _soft(self, answer: bytes, rcode: int) -> None:
        if rcode == REFUSED:
            self._refusal = self._refusal or answer
        else:
            self._failed = self._failed or answer

    def _settle(self, now: float) -> None:
        """When nobody is left who could do better, take what there is."""
        late = now >= self._end
        if self.result is not None or not (late or self._exhausted()):
            return
        if self._last_resort is not None:
            self.result, self.winner = self._last_resort
        elif self._failed is not None:
            self.result = self._failed
        elif self._refusal is not None:
            self.result = self._refusal
        elif late:
            self.gave_up = True
        else:
            self.result = reply(self._question, SERVFAIL)

    def _exhausted(self) -> bool:
        """Nobody is being asked, and nobody will be."""
        waiting = any(a.pending or a.tcp_at is not None for a in self._attempts.values())
        return not self._starts and not waiting

    def _disguised(self) -> bytes:
        """The client's message with an id and a case of letters that nobody else can know."""
        wire = self._question.wire
        letters = int.from_bytes(wire[:-_FIXED].translate(_CASE) + bytes(_FIXED))
        random = self._random_bytes(2 + len(wire))
        noise = int.from_bytes(random[2:]) & letters
        wire = (int.from_bytes(wire) ^ noise).to_bytes(len(wire))
        rest = self._data[HEADER.size + len(wire) :]
        if self._question.edns is not None and self._question.edns > EDNS_SIZE:
            rest = rest[:3] + EDNS_SIZE.to_bytes(2) + rest[5:]
        return random[:2] + self._data[2 : HEADER.size] + wire + rest
