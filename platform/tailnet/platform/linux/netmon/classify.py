"""What a change of the network means.

Source: tailscale net/netmon/netmon.go, rebindLikelyRequired; state.go, IsInterestingIP.
"""

from ipaddress import IPv4Interface, IPv6Interface, IPv6Network

from tailnet.platform.interface import (
    NetworkChange,
    NetworkEvent,
    NetworkInterface,
    NetworkState,
)
from tailnet.platform.linux.rules import is_tailnet_address

LONG_SLEEP = 600.0  # seconds; mappings of routers on the way have ended
_GLOBAL_V6 = IPv6Network("2000::/3")
_UNIQUE_LOCAL = IPv6Network("fc00::/7")

Address = IPv4Interface | IPv6Interface


def is_interesting(addr: Address) -> bool:
    """An address that packets from elsewhere may be sent to."""
    if is_tailnet_address(addr) or addr.ip.is_loopback or addr.ip.is_link_local:
        return False
    if isinstance(addr, IPv6Interface):
        return addr.ip in _GLOBAL_V6 or addr.ip in _UNIQUE_LOCAL
    return True


def has_family(state: NetworkState, version: int) -> bool:
    """Some device that is up has such an address."""
    return any(
        interface.up and addr.version == version and is_interesting(addr)
        for interface in state.interfaces.values()
        for addr in interface.addrs
    )


def _routable(interface: NetworkInterface | None) -> frozenset[Address]:
    if interface is None or not interface.up:
        return frozenset()
    return frozenset(filter(is_interesting, interface.addrs))


def compare(old: NetworkState, new: NetworkState, slept: float = 0.0) -> NetworkEvent | None:
    """The event between two states; ``None``: nothing that matters.

    Args:
        old: before.
        new: now.
        slept: seconds that the host was away in between.
    """
    reason = _major(old, new)
    if slept >= LONG_SLEEP:
        reason = reason or f"the host was away for {slept / 60:.0f} minutes"
    if reason and _has_way_out(old, new):
        return NetworkEvent(NetworkChange.MAJOR, new, reason, slept)
    if reason or old != new:
        return NetworkEvent(NetworkChange.MINOR, new, reason or _minor(old, new), slept)
    if slept > 0:
        return NetworkEvent(NetworkChange.MINOR, new, f"the host was away for {slept:.0f} s", slept)
    return None


def _has_way_out(old: NetworkState, new: NetworkState) -> bool:
    """Sockets bound anew would be of use; without default routes every address is a way out."""
    if not old.default and not new.default:
        return new.connected
    out = new.interfaces.get(new.default)
    return out is not None and out.up


def _major(old: NetworkState, new: NetworkState) -> str:
    """Why sockets of before are worth nothing; empty if they are."""
    if old.default != new.default:
        before = f", was by {old.default}" if old.default else ""
        return f"the default route is by {new.default}{before}" if new.default else "no way out"
    if _routable(old.interfaces.get(old.default)) != _routable(new.interfaces.get(new.default)):
        return f"{new.default} has other addresses"
    for version in (4, 6):
        if has_family(old, version) != has_family(new, version):
            return f"IPv{version} {'came' if has_family(new, version) else 'went'}"
    names = sorted({*old.interfaces, *new.interfaces})
    for name in names:
        if _routable(old.interfaces.get(name)) != _routable(new.interfaces.get(name)):
            return f"{name} has other addresses"
    return ""


def _minor(old: NetworkState, new: NetworkState) -> str:
    names = sorted({*old.interfaces, *new.interfaces})
    other = [n for n in names if old.interfaces.get(n) != new.interfaces.get(n)]
    return f"{', '.join(other)} changed" if other else "a route changed"
