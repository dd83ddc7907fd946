"""Which rules are wanted.

Ours are in a table of our own, replaced whole by one transaction.  One thing cannot be done from
there: to ``accept`` what an administrator's chain would drop.  So the accepts sit in two chains,
``ts-input`` and ``ts-forward``, in the conventional tables where such chains live, and only where
they already exist: where there is no chain, nothing drops.

Where the administrator wants to say himself when ours come (``nodivert``), none of our chains meets
packets: all rules are in chains of the conventional tables, for him to jump to, and nothing else
of ours is there.

::

    own table        prerouting -150  mark of an answer to the daemon's own packets, restored
    inet tailnetd    output     -150  mark of the daemon's own packets, kept with the connection
                     input        -5  addresses of tailnets that come from elsewhere: dropped
                     forward      -5  from the tunnel: marked; what may not enter it: dropped
                     postrouting 100  what the tunnel brought and the host forwards: masqueraded

    ip, ip6 filter   ts-input         the tunnel, our UDP port, our own addresses: accepted
                     ts-forward       to and from the tunnel: accepted

    nodivert         ts-input, ts-forward, and in ip, ip6 nat ts-postrouting: all but the two marks
                     of answers, which nobody else's chain would come to in time

What is in the conventional tables is only what iptables understands, or it could no longer list
them.

Source: tailscale util/linuxfw, wgengine/router/osrouter/router_linux.go.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from tailnet.platform.interface import FirewallConfig
from tailnet.platform.linux.constants import BYPASS_MARK, MARK_MASK
from tailnet.platform.linux.nft.syntax import (
    Chain,
    Counter,
    Ct,
    CtMark,
    CtState,
    Family,
    ForThisHost,
    Hook,
    HookPoint,
    Iif,
    Kind,
    Mark,
    Masquerade,
    Oif,
    Rule,
    SetCtMark,
    SetMark,
    Source,
    Table,
    UdpPort,
    Verdict,
    rule,
)

TABLE = "tailnetd"
FILTER, NAT = "filter", "nat"  # in ip and ip6: where iptables, ufw and docker have their chains
INPUT_CHAIN, FORWARD_CHAIN, NAT_CHAIN = "ts-input", "ts-forward", "ts-postrouting"
SUBNET_MARK = 0x40000  # on packets from the tunnel that the host forwards
CGNAT = IPv4Network("100.64.0.0/10")
CHROMEOS = IPv4Network("100.115.92.0/23")  # a hole in it

DROP, ACCEPT, RETURN = Verdict.DROP, Verdict.ACCEPT, Verdict.RETURN
ANSWERS = CtState(Ct.ESTABLISHED | Ct.RELATED)
BEGINNINGS = CtState(Ct.ESTABLISHED | Ct.RELATED | Ct.UNTRACKED, invert=True)
FROM_TUNNEL = Mark(SUBNET_MARK, MARK_MASK)


def own_table(tun: str, wall: FirewallConfig) -> Table:
    """Everything but the accepts.

    Our chains come before the conventional ones, so their drops repeat the exceptions that these
    have by order.
    """
    tun_in, tun_out = Iif(tun), Oif(tun)
    ours = Mark(BYPASS_MARK, MARK_MASK)
    # Only for this host: on forwarded answers the mark could forbid the way back.
    restore = rule(
        ANSWERS,
        CtMark(BYPASS_MARK, MARK_MASK),
        ForThisHost(),
        SetMark(BYPASS_MARK, MARK_MASK),
    )
    keep = rule(CtState(Ct.NEW), ours, SetCtMark(BYPASS_MARK, MARK_MASK))
    entering = [
        rule(tun_in, RETURN),
        rule(Iif("lo"), RETURN),
        *(rule(UdpPort(port), RETURN) for port in sorted(wall.ports)),
        rule(ANSWERS, RETURN),
        rule(Source(CHROMEOS), RETURN),
        rule(Source(CGNAT), Counter(), DROP),
    ]
    forwarded = [
        rule(tun_in, SetMark(SUBNET_MARK, MARK_MASK)),
        rule(FROM_TUNNEL, RETURN),
        rule(tun_out, Source(CGNAT), Counter(), DROP),
    ]
    if wall.stateful:
        forwarded.append(rule(tun_out, BEGINNINGS, Counter(), DROP))
    leaving = [rule(FROM_TUNNEL, Masquerade())] if wall.snat else []
    early, filtering = -150, -5
    chains = [
        Chain("pre", (restore,), Hook(HookPoint.PREROUTING, early)),
        Chain("out", (keep,), Hook(HookPoint.OUTPUT, early, Kind.ROUTE)),
        Chain("fwd", tuple(forwarded), Hook(HookPoint.FORWARD, filtering)),
        Chain("post", tuple(leaving), Hook(HookPoint.POSTROUTING, 100, Kind.NAT)),
    ]
    if wall.cgnat_drop:
        chains.insert(2, Chain("in", tuple(entering), Hook(HookPoint.INPUT, filtering)))
    return Table(Family.INET, TABLE, tuple(chains))


def accepts(tun: str, wall: FirewallConfig, family: Family) -> tuple[Chain, Chain]:
    """For the conventional table of one family: ``ts-input`` and ``ts-forward``."""
    version = 4 if family is Family.IPV4 else 6
    own = sorted((ip for ip in wall.addrs if ip.version == version), key=int)
    entering = [rule(Iif("lo"), Source(_host(ip)), ACCEPT) for ip in own]
    entering.append(rule(Iif(tun), ACCEPT))
    entering += [rule(UdpPort(port), ACCEPT) for port in sorted(wall.ports)]
    forwarded: list[Rule] = [rule(FROM_TUNNEL, ACCEPT), rule(Oif(tun), ACCEPT)]
    return Chain(INPUT_CHAIN, tuple(entering)), Chain(FORWARD_CHAIN, tuple(forwarded))


def undiverted(tun: str, wall: FirewallConfig, family: Family) -> tuple[tuple[str, Chain], ...]:
    """Everything that one family's conventional tables can hold, each chain with its table.

    The chains are there even if they are empty, or somebody's jump would lead nowhere.
    """
    tun_in, tun_out = Iif(tun), Oif(tun)
    entering, _ = accepts(tun, wall, family)
    last, lies = [], []
    if family is Family.IPV4:
        lies.append(rule(tun_out, Source(CGNAT), Counter(), DROP))
        if wall.cgnat_drop:
            last = [
                rule(ANSWERS, RETURN),
                rule(Source(CHROMEOS), RETURN),
                rule(Source(CGNAT), Counter(), DROP),
            ]
    if wall.stateful:
        lies.append(rule(tun_out, BEGINNINGS, Counter(), DROP))
    forwarded = (
        rule(tun_in, SetMark(SUBNET_MARK, MARK_MASK)),
        rule(FROM_TUNNEL, ACCEPT),
        *lies,
        rule(tun_out, ACCEPT),
    )
    leaving = (rule(FROM_TUNNEL, Masquerade()),) if wall.snat else ()
    return (
        (FILTER, entering._replace(rules=(*entering.rules, *last))),
        (FILTER, Chain(FORWARD_CHAIN, forwarded)),
        (NAT, Chain(NAT_CHAIN, leaving)),
    )


def _host(ip: IPv4Address | IPv6Address) -> IPv4Network | IPv6Network:
    return IPv4Network((int(ip), 32)) if ip.version == 4 else IPv6Network((int(ip), 128))
