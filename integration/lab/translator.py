"""The routers of a topology in the kernel: links inside, nftables, and what else they carry.

Each machine behind a router has a link of its own to it, so it sees the router alone.  There is no
bridge: what a router translates would go round its routing where bridges ask the IP firewall.
"""

from collections.abc import Callable
from ipaddress import IPv4Address

from integration.lab import miniupnpd
from integration.lab.process import run
from integration.lab.topology import OUTSIDE, HostSpec, RouterSpec, Topology, Translation

UPLINK = "eth0"
LAN = "lan0"
PORT = 41641  # of the daemons, for what a router forwards
LINK_LOCAL = "fe80::1"  # of every router inside

_RULES = """\
table ip lab {
	set asked { type ipv4_addr; flags timeout; timeout 2m; }
	chain prerouting {
		type nat hook prerouting priority dstnat;
		%(forwarded)s
	}
	chain postrouting {
		type nat hook postrouting priority srcnat;
		%(kept)s
		oifname %(wan)s masquerade %(how)s
	}
	chain input {
		type filter hook input priority filter;
		# Refused before it is remembered: otherwise the mapping made later gets another port.
		iifname %(wan)s meta l4proto udp ct state new drop
	}
	chain forward {
		type filter hook forward priority filter;
		%(passing)s
	}
}
table ip6 lab {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname %(lan)s accept
	}
}
"""


def build(router: RouterSpec, topology: Topology, namespace: Callable[[str], str]) -> None:
    """Make a router in its namespace, with links to what is behind it."""
    here = namespace(router.name)
    machines: list[RouterSpec | HostSpec] = [*topology.routers, *topology.hosts]
    below = [each for each in machines if each.behind == router.name]
    commands = [
        "link set lo up",
        f"address add {router.wan} dev {UPLINK}",
        *([f"address add {router.ipv6} dev {UPLINK} nodad"] if router.ipv6 is not None else []),
        f"link set {UPLINK} up",
        *ways_out(router, topology),
    ]
    for number, each in enumerate(below):
        link = f"{LAN[:-1]}{number}"
        commands += [
            f"link add {link} type veth peer name {UPLINK} netns {namespace(each.name)}",
            f"address add {router.lan if link == LAN else f'{router.lan.ip}/32'} dev {link}",
            f"link set {link} up",
        ]
        if link != LAN:
            commands.append(f"route add {_address(each)} dev {link}")
    knobs = ["ipv4.ip_forward=1"]
    if router.outside is not None:
        commands.append(f"address add {router.outside}/32 dev {UPLINK}")
    if router.ipv6 is not None:
        knobs.append("ipv6.conf.all.forwarding=1")
        commands.append(f"address add {LINK_LOCAL}/64 dev {LAN} nodad")
        for each in below:
            if isinstance(each, HostSpec) and each.ipv6 is not None:
                commands.append(f"route add {each.ipv6.network} dev {LAN}")
        for name in (router.name, *(each.name for each in below)):
            at_once = [f"net.ipv6.conf.{which}.accept_dad=0" for which in ("all", "default")]
            run(["sysctl", "-qw", *at_once], namespace=namespace(name))
    batch(commands, namespace=here)
    run(["sysctl", "-qw", *(f"net.{knob}" for knob in knobs)], namespace=here)
    run(["nft", "-f", "-"], namespace=here, feed=_rules(router))


def ways_out(spec: RouterSpec | HostSpec, topology: Topology) -> list[str]:
    """Routes of a router or host."""
    above = next((router for router in topology.routers if router.name == spec.behind), None)
    if above is None:
        mapped = any(router.outside is not None for router in topology.routers)
        return [
            *([f"route add {OUTSIDE} dev {UPLINK}"] if mapped else []),
            *(ways_in(topology, spec.name) if spec.ipv6 is not None else []),
        ]
    routes = [f"route add default via {above.lan.ip}"]
    if above.ipv6 is not None:
        routes.append(f"route add default via {LINK_LOCAL} dev {UPLINK}")
    return routes


def ways_in(topology: Topology, here: str) -> list[str]:
    """Routes to networks of IPv6 behind routers, for what is on the segment itself."""
    return [
        f"route add {host.ipv6.network} via {router.ipv6.ip}"
        for router in topology.routers
        for host in topology.hosts
        if host.behind == router.name != here and host.ipv6 is not None and router.ipv6 is not None
    ]


def _address(spec: RouterSpec | HostSpec) -> IPv4Address:
    return spec.wan.ip if isinstance(spec, RouterSpec) else spec.ipv4.ip


def _rules(router: RouterSpec) -> str:
    """The kernel translates per connection and keeps the port if it can: "port" needs no more."""
    kind, asked = router.translation, ""
    passing = forwarded = how = kept = ""
    if router.outside is not None:
        return miniupnpd.rules(LAN, UPLINK)
    match kind:
        case Translation.SYMMETRIC:
            how = "random,fully-random"
        case Translation.BLOCKED:
            passing = "meta l4proto udp drop"
        case Translation.RESTRICTED:
            passing = f"oifname {UPLINK} meta l4proto udp update @asked {{ ip daddr }}"
            asked = "ip saddr @asked"
        case Translation.HAIRPIN | Translation.NO_HAIRPIN:
            side = "" if kind is Translation.HAIRPIN else f"iifname {UPLINK}"
            for port, inner in enumerate(router.inner, PORT):
                rule = f"{side} ip daddr {router.wan.ip} udp dport {port} dnat to {inner}:{PORT}"
                forwarded += f"{rule}\n\t\t"
                kept += f"ip saddr {inner} udp sport {PORT} snat to {router.wan.ip}:{port}\n\t\t"
        case _:
            pass
    if kind in {Translation.RESTRICTED, Translation.CONE}:
        forwarded = f"iifname {UPLINK} {asked} udp dport {PORT} dnat to {router.inner[0]}"
    return _RULES % {
        "wan": UPLINK,
        "lan": LAN,
        "forwarded": forwarded,
        "how": how,
        "kept": kept,
        "passing": passing,
    }


def batch(commands: list[str], *, namespace: str | None = None) -> None:
    """Run commands of ``ip``, all or up to the first that fails."""
    where = [] if namespace is None else ["-n", namespace]
    run(["ip", *where, "-batch", "-"], feed="\n".join(commands) + "\n")
