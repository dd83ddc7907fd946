"""Ways to be connected to the internet, and which of them can meet."""

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface

from integration.lab.topology import (
    FIRST_HOST,
    INTERNET,
    OUTSIDE,
    HostSpec,
    RouterSpec,
    Topology,
    Translation,
)

OPEN, DOUBLE, SIX = "open", "double", "six"
KINDS: dict[str, tuple[Translation, ...]] = {
    OPEN: (),
    "cone": (Translation.CONE,),
    "addr": (Translation.RESTRICTED,),
    "port": (Translation.PORT,),
    "sym": (Translation.SYMMETRIC,),
    DOUBLE: (Translation.PORT, Translation.PORT),
    "hair": (Translation.HAIRPIN,),
    "nohair": (Translation.NO_HAIRPIN,),
    SIX: (Translation.SYMMETRIC,),
    "upnp": (Translation.MAPPED_UPNP,),
    "pcp": (Translation.MAPPED_PCP,),
    "blocked": (Translation.BLOCKED,),
}
"""The routers from the outside in."""
SHARED = {"hair", "nohair"}  # all hosts of the kind are behind the same router
MAPPED = {Translation.MAPPED_UPNP, Translation.MAPPED_PCP}


def translated(**hosts: str) -> Topology:
    """Each host behind routers of its own, but for the kinds that are about a shared one.

    ::

        bridge (servers) ── router ── [router ──] host
              │
        open host, router …

    Args:
        hosts: name and kind, from :data:`KINDS`.
    """
    machines: list[HostSpec] = []
    routers: dict[str, RouterSpec] = {}
    for number, (name, kind) in enumerate(hosts.items(), FIRST_HOST):
        address, behind = IPv4Interface(f"10.99.0.{number}/24"), ""
        for depth, translation in enumerate(KINDS[kind]):
            router = f"r{depth}{kind if kind in SHARED else name}"
            if router not in routers:
                routers[router] = _router(router, kind, depth, number, address, behind, translation)
            spec = routers[router]
            inner = IPv4Interface((spec.lan.ip + 1 + len(spec.inner), spec.lan.network.prefixlen))
            routers[router] = _with(spec, inner)
            address, behind = inner, router
        ipv6 = IPv6Interface(f"fd99:0:0:{number}::2/64" if behind else f"fd99::{number}/64")
        known = ipv6 if kind in {OPEN, SIX} else None
        machines.append(HostSpec(name, address, known, behind))
    return Topology(INTERNET, tuple(machines), routers=tuple(routers.values()))


def _router(
    name: str,
    kind: str,
    depth: int,
    number: int,
    wan: IPv4Interface,
    behind: str,
    translation: Translation,
) -> RouterSpec:
    net = f"172.20.{number}" if depth == 0 and kind == DOUBLE else f"192.168.{number}"
    return RouterSpec(
        name,
        wan,
        IPv4Interface(f"{net}.1/24"),
        (),
        translation,
        behind,
        IPv6Interface(f"fd99::1:{number}/64") if kind == SIX else None,
        OUTSIDE[number] if translation in MAPPED else None,
    )


def _with(router: RouterSpec, inner: IPv4Interface) -> RouterSpec:
    return replace(router, inner=(*router.inner, inner.ip))


def can_meet(one: str, two: str) -> bool:
    """Theory, in this order.

    1. Without UDP nobody is met.
    2. Who has IPv6 meets others who have, whatever is done to IPv4.
    3. Who has a port opened is met by everybody.
    4. Two behind one router meet only if it lets them reach its outer addresses.
    5. Otherwise a hole is punched, unless a port would have to be guessed where ports are
       looked at.
    """
    if "blocked" in (one, two):
        return False
    if {one, two} <= {OPEN, SIX}:
        return True
    if {one, two} & {"upnp", "pcp"}:
        return True
    if one == two == "nohair":
        return False
    guessed = {"sym", SIX}
    strict = {"port", DOUBLE} | guessed
    return not ((one in guessed and two in strict) or (two in guessed and one in strict))
