"""The guard: while it stands, nothing leaves this host but through the tunnel.

A table of its own, apart from the rest, because it stays when the daemon goes: after ``kill -9``,
and from boot until the daemon is up.  What passes: the loopback device, the tunnel, the packets of
the daemon itself (they carry its mark, which needs CAP_NET_ADMIN to set), DHCP and neighbour
discovery, and the local networks if the user allows them.
"""

from tailnet.platform.interface import Guard
from tailnet.platform.linux.constants import BYPASS_MARK, MARK_MASK
from tailnet.platform.linux.nft.syntax import (
    Chain,
    Counter,
    Destination,
    Family,
    Hook,
    HookPoint,
    Iif,
    Mark,
    Neighbours,
    Oif,
    Prefix,
    Table,
    UdpPort,
    Verdict,
    rule,
)

TABLE = "tailnetd-guard"
_PRIORITY = 10  # after everybody's filters: what they drop is not ours to count
_DHCP = ((67, 68), (547, 546))  # server and client ports, IPv4 and IPv6


def guard_table(tun: str, guard: Guard) -> Table:
    """Drops what does not pass, and counts it.  ``tun``: name of the tunnel's device."""
    accept, drop = Verdict.ACCEPT, Verdict.DROP
    near = [rule(Destination(p), accept) for p in sorted(guard.local, key=_order)]
    out = [
        rule(Oif("lo"), accept),
        rule(Oif(tun), accept),
        rule(Mark(BYPASS_MARK, MARK_MASK), accept),
        *(rule(UdpPort(c, source=True), UdpPort(s), accept) for s, c in _DHCP),
        rule(Neighbours(), accept),
        *near,
        rule(Counter(), drop),
    ]
    forwarded = [
        rule(Oif(tun), accept),
        rule(Iif(tun), accept),
        *near,
        rule(Counter(), drop),
    ]
    chains = (
        Chain("out", tuple(out), Hook(HookPoint.OUTPUT, _PRIORITY)),
        Chain("fwd", tuple(forwarded), Hook(HookPoint.FORWARD, _PRIORITY)),
    )
    return Table(Family.INET, TABLE, chains)


def _order(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen
