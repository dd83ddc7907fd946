"""A machine without a kernel for a whole node, or with the kernel's routes and device only."""

from collections.abc import Callable

from tailnet.agent import clock
from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend.login import Host
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.datapath.native import NativeDatapath
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.dns.upstream import Https
from tailnet.agent.keys import NodePrivate
from tailnet.agent.netstack.sites.aio import SiteRouter
from tailnet.agent.noise.wireguard.interface import Handshakes
from tailnet.agent.noise.wireguard.native import NativeHandshakes
from tailnet.agent.noise.wireguard.reference import ReferenceHandshakes
from tailnet.platform.fake import (
    FakeBypass,
    FakeDns,
    FakeFirewall,
    FakeGateways,
    FakeMonitor,
    FakeRouter,
    FakeTun,
)
from tailnet.platform.interface import Bypass, Gateways, NetworkMonitor, Router, TunDevice
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import open_tun
from tailnet.platform.system import Listener


class Tun(FakeTun):
    """Its far side stays open when the daemon has taken the descriptor."""

    def close(self) -> None:
        """Nothing."""


async def no_https(to: Https, message: bytes) -> bytes:
    """Nobody is asked by HTTP."""
    del to, message
    raise OSError


class System:
    """A machine without a kernel."""

    def __init__(self, *, native: bool, router: bool) -> None:
        self.host = Host(hostname="bench")
        self.bypass: Bypass = FakeBypass()
        self.gateways: Gateways = FakeGateways()
        self._native = native
        self._router = router
        self._tun = Tun()

    def open_tun(self, queues: int) -> TunDevice:
        """The device; the kernel's with its router."""
        del queues
        return open_tun("tailnet0") if self._router else self._tun

    def make_router(self, tun_name: str) -> Router:
        """The kernel's, or one that remembers, and that is all."""
        return LinuxRouter(tun_name) if self._router else FakeRouter()

    def make_firewall(self, tun_name: str) -> FakeFirewall:
        """It remembers, and that is all."""
        del tun_name
        return FakeFirewall()

    def make_dns(self, tun_name: str) -> FakeDns:
        """Remembers, and that is all."""
        del tun_name
        return FakeDns()

    def make_monitor(self, tun_name: str) -> NetworkMonitor:
        """Of a network that never changes."""
        del tun_name
        return FakeMonitor()

    def make_datapath(self) -> Datapath:
        """In Rust or in Python."""
        return NativeDatapath() if self._native else ReferenceDatapath(now=clock.now)

    def make_handshakes(self, private: NodePrivate) -> Handshakes:
        """In Rust or in Python."""
        return NativeHandshakes(private) if self._native else ReferenceHandshakes(private)

    def make_sites(self, set_socket: Callable[[int | None], None]) -> SiteRouter:
        """Of none."""
        return SiteRouter(None, set_socket, now=clock.now)

    def local_networks(self) -> tuple[IPNetwork, ...]:
        """None."""
        return ()

    def listeners(self) -> tuple[Listener, ...]:
        """None."""
        return ()

    def udp_gro_problem(self, tun_name: str, uplink: str) -> str:
        """None."""
        del tun_name, uplink
        return ""

    def set_udp_gro(self, tun_name: str, uplink: str) -> None:
        """Nothing to do."""
        del tun_name, uplink

    def strict_filter(self) -> bool:
        """No."""
        return False

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """None."""
        del v4, v6
        return ""
