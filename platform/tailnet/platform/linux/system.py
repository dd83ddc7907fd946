"""Linux, as a ``Platform``."""

import secrets
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from tailnet.platform.interface import (
    Bypass,
    DnsConfigurator,
    Firewall,
    Gateways,
    HostTakenError,
    NetworkMonitor,
    PlatformError,
    Router,
    TunDevice,
)
from tailnet.platform.linux import hostinfo
from tailnet.platform.linux.bypass import LinuxBypass
from tailnet.platform.linux.dns.caretaker import Caretaker
from tailnet.platform.linux.dns.configurator import LinuxDns
from tailnet.platform.linux.dns.replaced import ResolvConfFile
from tailnet.platform.linux.dns.restore import cleanup as restore_dns
from tailnet.platform.linux.ethtool import gro_forwarding_problem, set_gro_forwarding
from tailnet.platform.linux.gateway import LinuxGateways
from tailnet.platform.linux.listeners import listeners
from tailnet.platform.linux.netlink import open_netlink
from tailnet.platform.linux.netmon.monitor import LinuxNetworkMonitor
from tailnet.platform.linux.nft.firewall import LinuxFirewall
from tailnet.platform.linux.nft.firewall import remove as remove_firewall
from tailnet.platform.linux.notify import notify, watchdog
from tailnet.platform.linux.residue import cleanup
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.sysctl import filters_strictly
from tailnet.platform.linux.tun import open_tun, tun_problem
from tailnet.platform.system import HostDescription, Listener

ROOT = Path("/")


class Linux:
    """See ``Platform``."""

    def __init__(self) -> None:
        self._netlink_port = 1 << 30 | secrets.randbits(30)  # of our routes; nobody else's

    def describe(self) -> HostDescription:
        """From its files."""
        return hostinfo.describe(ROOT)

    def local_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Of all links."""
        return hostinfo.local_networks()

    def listeners(self) -> tuple[Listener, ...]:
        """From ``/proc``."""
        return listeners()

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """From the kernel's settings."""
        return hostinfo.forwarding_problem(ROOT, v4=v4, v6=v6)

    def udp_gro_problem(self, tun_name: str, uplink: str) -> str:
        """From the features of both."""
        return gro_forwarding_problem(tun_name, uplink)

    def set_udp_gro(self, tun_name: str, uplink: str) -> None:
        """By the features of the uplink."""
        set_gro_forwarding(tun_name, uplink)

    def strict_filter(self) -> bool:
        """From the kernel's settings."""
        return filters_strictly()

    def tun_problem(self) -> str:
        """The device node and CAP_NET_ADMIN."""
        return tun_problem()

    def open_tun(self, name: str, *, queues: int) -> TunDevice:
        """By ``/dev/net/tun``."""
        return open_tun(name, queues=queues)

    def bypass(self, tun_name: str) -> Bypass:
        """By mark, or by device."""
        return LinuxBypass(tun_name)

    def gateways(self) -> Gateways:
        """Over netlink."""
        return LinuxGateways()

    def router(self, tun_name: str) -> Router:
        """Over netlink."""
        return LinuxRouter(tun_name, connect=lambda: open_netlink(self._netlink_port))

    def firewall(self, tun_name: str) -> Firewall:
        """By nftables."""
        return LinuxFirewall(tun_name)

    def dns(self, tun_name: str) -> DnsConfigurator:
        """Whoever decides over names here."""
        return LinuxDns(tun_name, caretaker=Caretaker())

    def programs_ask(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Who stands in ``/etc/resolv.conf``, or stood there before us."""
        return ResolvConfFile(ROOT).base().nameservers

    def monitor(self, tun_name: str) -> NetworkMonitor:
        """Over netlink, which needs no privilege."""
        return LinuxNetworkMonitor(tun_name, own_port=self._netlink_port)

    async def cleanup(self, tun_name: str, *, leak_guard: bool, guard: bool) -> list[str]:
        """Names, while questions still find their way; then routes, and the firewall."""
        refused = None
        try:
            names = partial(restore_dns, ROOT)
            done = await cleanup(tun_name, leak_guard=leak_guard, names=names)
        except HostTakenError:
            raise
        except PlatformError as error:
            done, refused = [], error
        done += await remove_firewall(guard=guard, leak_guard=not leak_guard)
        if refused is not None:
            raise refused
        return done

    def notify(self, *states: str) -> bool:
        """To the socket that systemd named."""
        return notify(*states)

    def watchdog(self) -> float | None:
        """As systemd said when it started us."""
        return watchdog()
