"""Which connections may have survived a change of the network, by the address at our end.

Source: tailscale wgengine/magicsock/derp.go maybeCloseDERPsOnRebind; net/tsdial linkChanged.
"""

from collections.abc import Iterable

from tailnet.agent.addr import IPAddress
from tailnet.platform.interface import NetworkInterface, NetworkState


def good_addresses(before: NetworkState | None, after: NetworkState) -> frozenset[IPAddress]:
    """Addresses whose connections deserve a question; those of all others are over.

    Where the default route leads out by another device, packets of the old one's connections would
    leave by the new one with an address that nobody answers.
    """
    moved = before is not None and before.default != after.default and bool(after.default)
    ways_out = {after.default_v4, after.default_v6}
    return _addresses(
        interface
        for name, interface in after.interfaces.items()
        if interface.up and (not moved or name in ways_out or _is_loopback(interface))
    )


def _addresses(interfaces: Iterable[NetworkInterface]) -> frozenset[IPAddress]:
    return frozenset(a.ip for interface in interfaces for a in interface.addrs)


def _is_loopback(interface: NetworkInterface) -> bool:
    return any(a.ip.is_loopback for a in interface.addrs)
