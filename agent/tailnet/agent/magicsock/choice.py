"""Which of two paths by UDP is better.

Source: tailscale wgengine/magicsock/endpoint.go betterAddr.
"""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress, ViaAddr
from tailnet.agent.keys import DiscoPublic
from tailnet.agent.magicsock.candidate import Candidate

_PRIVATE_V4 = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_PRIVATE_V6 = IPv6Network("fc00::/7")

WORSE, NOISE = 2.0, 0.020  # times, and seconds, that a path may take longer and be as good
_LOOPBACK, _LINK_LOCAL, _PRIVATE, _IPV6 = 50, 30, 20, 10  # points


class Quality(NamedTuple):
    """A path by UDP.

    Attributes:
        addr: the peer's address, or a session at a peer relay.
        latency: as last measured [s].
        wire_mtu: largest IP packet answered [bytes]; 0 if sizes are not tried.
        server: the relay's disco key.
    """

    addr: AddrPort | ViaAddr
    latency: float
    wire_mtu: int = 0
    server: DiscoPublic | None = None

    @property
    def direct(self) -> bool:
        """Not through a peer relay."""
        return isinstance(self.addr, AddrPort)

    @property
    def ip(self) -> IPAddress:
        """Where datagrams go: the peer's address, or the relay's."""
        return self.addr.ip if isinstance(self.addr, AddrPort) else self.addr.relay.ip


def better(a: Quality | None, b: Quality | None) -> bool:
    """True if the challenger ``a`` should replace the current ``b``.

    A direct path is better than any through a relay.  Otherwise the faster path gets a point per
    percent that it is faster, near networks and IPv6 get a bonus, and a lead of one point is not
    enough: two equal paths must not take turns.
    """
    if a is None:
        return False
    if b is None:
        return True
    if a.addr == b.addr:
        return a.wire_mtu > b.wire_mtu
    if a.direct != b.direct:
        return a.direct
    points_a, points_b = points(a, b)
    if points_a <= 1 and points_b == 0:
        return False
    return points_a > points_b


def as_good(a: Quality, b: Quality) -> bool:
    """True if ``a`` is no worse than ``b`` but by chance."""
    if a.direct != b.direct or _bonus(a.ip) < _bonus(b.ip):
        return a.direct and not b.direct
    return a.latency <= WORSE * b.latency + NOISE


def answered(addr: AddrPort, candidate: Candidate, since: float) -> Quality | None:
    """As last measured; ``None`` if that was before ``since`` [s]."""
    pong = candidate.pongs[-1] if candidate.pongs else None
    if pong is None or pong.at < since:
        return None
    return Quality(addr, pong.latency, candidate.wire_mtu)


def best_answered(
    candidates: Mapping[AddrPort, Candidate], since: float, but: AddrPort | ViaAddr
) -> Quality | None:
    """The best address that answered since then, ``but`` aside; ``None`` if none did."""
    best: Quality | None = None
    for addr, candidate in candidates.items():
        found = answered(addr, candidate, since) if addr != but else None
        best = found if better(found, best) else best
    return best


def points(a: Quality, b: Quality) -> tuple[int, int]:
    """Of each of two paths: percent that it is faster than the other, and its bonus."""
    points_a = points_b = 0
    latency_a, latency_b = round(a.latency * 1e9), round(b.latency * 1e9)
    if latency_a > latency_b and latency_a > 0:
        points_b = 100 - latency_b * 100 // latency_a
    elif latency_b > 0:
        points_a = 100 - latency_a * 100 // latency_b
    return points_a + _bonus(a.ip), points_b + _bonus(b.ip)


def _bonus(ip: IPAddress) -> int:
    bonus = _IPV6 if ip.version == 6 else 0
    if ip.is_loopback:
        return bonus + _LOOPBACK
    if ip.is_link_local:
        return bonus + _LINK_LOCAL
    return bonus + (_PRIVATE if is_private(ip) else 0)


def is_private(ip: IPAddress) -> bool:
    """RFC 1918 and RFC 4193 only; the standard library's notion is wider."""
    return any(ip in n for n in _PRIVATE_V4) if ip.version == 4 else ip in _PRIVATE_V6
