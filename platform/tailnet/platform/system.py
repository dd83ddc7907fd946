"""One operating system: what this host is, and what makes the ports."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from tailnet.platform.interface import (
    Bypass,
    DnsConfigurator,
    Firewall,
    Gateways,
    NetworkMonitor,
    Router,
    TunDevice,
)


@dataclass(frozen=True, slots=True)
class HostDescription:
    """The host.  Texts are empty where unknown.

    Attributes:
        os_version: of the kernel where there is one, such as ``6.1.0``.
        distro: ``ID`` of os-release, such as ``debian``.
        distro_version: ``VERSION_ID``, such as ``12``.
        distro_code_name: ``VERSION_CODENAME``, such as ``bookworm``.
        machine: as of uname, such as ``x86_64``.
        container: this runs in a container.
        env: kind of a hosted environment, such as ``k8s``.
        device_model: what the hardware calls itself.
        cloud: whose machine it is, such as ``aws``.
        desktop: somebody sits before it.
    """

    os_version: str
    distro: str
    distro_version: str
    distro_code_name: str
    machine: str
    container: bool
    env: str
    device_model: str
    cloud: str
    desktop: bool


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port of this host that other machines may connect to, and whose it is, if known."""

    port: int
    program: str


class Platform(Protocol):
    """One operating system: what it is, and what makes its ports."""

    def describe(self) -> HostDescription:
        """What this host is.  Never fails."""

    def local_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The prefixes of this host's links, now."""

    def listeners(self) -> tuple[Listener, ...]:
        """Who takes TCP connections, now.  Takes some milliseconds, and never fails."""

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """Why a subnet router of these families does not work; empty if it does."""

    def udp_gro_problem(self, tun_name: str, uplink: str) -> str:
        """What makes UDP slow that is forwarded between these devices; empty if nothing does."""

    def set_udp_gro(self, tun_name: str, uplink: str) -> None:
        """Make UDP quick that is forwarded between these devices; raises ``PlatformError``."""

    def strict_filter(self) -> bool:
        """Answers that come by another way than they would be sent are dropped."""

    def tun_problem(self) -> str:
        """Why no device can be opened, in one line; empty if nothing stands against it."""

    def open_tun(self, name: str, *, queues: int) -> TunDevice:
        """Open or make the device ``name``, with as many queues where it can.

        Raises:
            PlatformError: refused.
        """

    def bypass(self, tun_name: str) -> Bypass:
        """For the sockets that carry that device's packets."""

    def gateways(self) -> Gateways:
        """Of this host."""

    def router(self, tun_name: str) -> Router:
        """For that device."""

    def firewall(self, tun_name: str) -> Firewall:
        """For that device."""

    def dns(self, tun_name: str) -> DnsConfigurator:
        """With that device."""

    def programs_ask(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Whom programs of this host ask for names, without us.  Only looks.

        Raises:
            PlatformError: that cannot be read.
        """

    def monitor(self, tun_name: str) -> NetworkMonitor:
        """Of everything but that device."""

    async def cleanup(self, tun_name: str, *, leak_guard: bool, guard: bool) -> list[str]:
        """Remove what a daemon that died left behind; none may be running.

        Args:
            tun_name: its device.
            leak_guard: what keeps packets from leaking stays.
            guard: the kill switch goes, too.

        Returns:
            A line for each thing that was done.

        Raises:
            PlatformError: the first thing that could not be removed.
        """

    def notify(self, *states: str) -> bool:
        """Tell the service manager, in the words of sd_notify(3); false where nobody listens."""

    def watchdog(self) -> float | None:
        """Seconds of silence after which it takes us for dead; ``None`` if it does not."""
