"""Token buckets per source, for a responder under load.

Source: wireguard-go ratelimiter/ratelimiter.go.
"""

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.keys import RelayAddr
from tailnet.agent.wireguard.session import Source

PER_SECOND = 20
BURST = 5
IDLE = 1.0  # seconds after which a source is forgotten
MAX_SOURCES = 16_384

_COST = 1 / PER_SECOND
_MAX_CREDIT = BURST * _COST


class RateLimiter:
    """20 handshake messages per second and source, 5 at once.

    A source is an IP address without port (a peer relay's, too), or a node behind DERP.
    """

    def __init__(self) -> None:
        self._buckets: dict[object, tuple[float, float]] = {}  # credit [s], as of
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, src: Source, now: float) -> bool:
        """Take a token; false when there is none."""
        self._sweep(now)
        key = _who(src)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MAX_SOURCES:
                return False
            credit = _MAX_CREDIT
        else:
            credit = min(_MAX_CREDIT, bucket[0] + now - bucket[1])
        # Tokens are seconds here; half a microsecond forgives the rounding of floats.
        allowed = credit >= _COST - 5e-7
        self._buckets[key] = (credit - _COST if allowed else credit, now)
        return allowed

    def _sweep(self, now: float) -> None:
        if now - self._swept < IDLE:
            return
        self._swept = now
        self._buckets = {k: b for k, b in self._buckets.items() if now - b[1] < IDLE}


def _who(src: Source) -> object:
    match src:
        case AddrPort(ip, _) | ViaAddr(AddrPort(ip, _), _):
            return ip
        case RelayAddr(_, key):
            return key
