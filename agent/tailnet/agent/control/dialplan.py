"""Which addresses and ports to try for a control server.

Source: tailscale control/ts2021/client.go, control/controlhttp/client.go.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import UserError
from tailnet.agent.tailcfg.codec import ip_or_none

TLS_DELAY = 0.5  # seconds that the plaintext attempt is ahead
SHORTEST_DIAL, SLACK, LONGEST_DIAL = 5.0, 5.0, 60.0  # seconds up to the end of the handshake
DIAL_TIMEOUT = SHORTEST_DIAL + SLACK  # seconds, without a plan
MAX_CANDIDATES = 32
ACE_PORT = 443
FORCE_TLS_WINDOW = 120.0  # seconds: a connection that died this young was killed by a middlebox


@dataclass(frozen=True, slots=True)
class ServerURL:
    """A control server's URL in parts."""

    text: str
    tls: bool
    host: str
    port: int | None
    """``None``: the default of the scheme."""

    @property
    def authority(self) -> str:
        """``host[:port]`` for Host headers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to reach the server; ``delay`` [s] after the first, or when the one before fails."""

    host: str
    port: int
    tls: bool
    delay: float
    ip: IPAddress | None = None
    """Go there, whatever DNS and proxies say."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Another way to the server: a fixed address, or a host that relays TCP (ACE).

    ``delay`` and ``timeout`` are seconds; 0 is no limit of its own.
    """

    ip: IPAddress | None
    ace_host: str
    delay: float
    timeout: float


def parse_candidates(raw: Iterable[Mapping[str, object]]) -> tuple[Candidate, ...]:
    """The candidates of a server's plan; what makes no sense is left out."""
    found = []
    for item in itertools.islice(raw, MAX_CANDIDATES):
        ip, ace = ip_or_none(_text(item.get("IP"))), _text(item.get("ACEHost"))
        if ip is None and not ace:
            continue
        delay, timeout = (
            _seconds(item.get("DialStartDelaySec")),
            _seconds(item.get("DialTimeoutSec")),
        )
        found.append(Candidate(ip, ace, delay, timeout))
    return tuple(found)


def dial_timeout(plan: Iterable[Candidate]) -> float:
    """Seconds for one dial."""
    longest = max((c.delay + c.timeout for c in plan), default=0.0)
    return min(max(longest, SHORTEST_DIAL) + SLACK, LONGEST_DIAL)


def candidate_attempts(url: ServerURL, candidate: Candidate, *, force_tls: bool) -> list[Attempt]:
    """The usual attempts, at the candidate's address."""
    return [replace(a, ip=candidate.ip) for a in noise_attempts(url, force_tls=force_tls)]


def ace_attempts(url: ServerURL, candidate: Candidate) -> tuple[Attempt, Attempt]:
    """TLS to the relaying host; and what it is to connect to, which speaks plain HTTP."""
    relay = Attempt(candidate.ace_host, ACE_PORT, tls=True, delay=0.0, ip=candidate.ip)
    return relay, Attempt(url.host, 80, tls=False, delay=0.0)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return min(max(float(value), 0.0), LONGEST_DIAL)


def parse_server_url(text: str) -> ServerURL:
    """Parse the URL a user gave.

    Raises:
        UserError: not an http(s) URL with a host.
    """
    try:
        parts = urlsplit(text.rstrip("/"))
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query:
        msg = f"{text!r} is not the URL of a control server: give http(s)://host[:port]"
        raise UserError(msg)
    return ServerURL(text.rstrip("/"), parts.scheme == "https", parts.hostname, port)


def key_attempt(url: ServerURL) -> Attempt:
    """Where ``GET /key`` goes: to the URL and nowhere else."""
    return Attempt(url.host, url.port or (443 if url.tls else 80), url.tls, 0.0)


def noise_attempts(url: ServerURL, *, force_tls: bool) -> list[Attempt]:
    """Where ``POST /ts2021`` goes, in order.

    Plain http first, since Noise protects what matters; TLS a little later.  A private server
    that is configured as http is asked on that port alone.  ``force_tls`` leaves the plaintext
    attempt out for a server that is configured as https, and puts it last for one that is not.
    """
    if url.tls:
        plain = Attempt(url.host, 80, tls=False, delay=0.0)
        secure = Attempt(url.host, url.port or 443, tls=True, delay=TLS_DELAY)
    else:
        plain = Attempt(url.host, url.port or 80, tls=False, delay=0.0)
        if _is_private(url.host):
            return [plain]
        secure = Attempt(url.host, 443, tls=True, delay=TLS_DELAY)
    if force_tls:
        secure, plain = replace(secure, delay=0.0), replace(plain, delay=TLS_DELAY)
        return [secure] if url.tls else [secure, plain]
    return [plain, secure]


def _is_private(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
