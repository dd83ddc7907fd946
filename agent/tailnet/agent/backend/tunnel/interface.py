"""What the tunnel is made of and wants: the operating system, the daemon's flags, a plan."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend.login import Host
from tailnet.agent.backend.plan import Plan
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import NodePrivate
from tailnet.agent.magicsock.sockets.offload import PLAIN, Offload
from tailnet.agent.noise.wireguard.interface import Handshakes
from tailnet.agent.portmap.interface import Protocol as MapProtocol
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.platform.interface import (
    Bypass,
    DnsConfigurator,
    Firewall,
    FirewallConfig,
    Gateways,
    NetfilterMode,
    NetworkMonitor,
    Router,
    RouterConfig,
    TunDevice,
)
from tailnet.platform.system import Listener

EMPTY = Plan(
    peers={},
    local=(),
    filter=Filter.shields_up(),
    router=RouterConfig(),
    firewall=FirewallConfig(mode=NetfilterMode.OFF),
    derp_map=DERPMap(),
)


class Sites(Protocol):
    """Carries on what peers send to sites (4via6)."""

    @property
    def problem(self) -> str:
        """Why sites are not reached; empty if they are."""

    def want(self, announced: Iterable[IPNetwork]) -> None:
        """Be the router of the sites among these, and of no others."""

    async def close(self) -> None:
        """End every connection.  Idempotent."""

    def drops(self) -> dict[str, int]:
        """What was not carried, by reason."""


class System(Protocol):
    """What ``main`` knows of this operating system."""

    host: Host
    bypass: Bypass
    gateways: Gateways

    def open_tun(self, queues: int) -> TunDevice:
        """Open the device, with as many queues where it can; raises ``PlatformError``."""

    def make_router(self, tun_name: str) -> Router:
        """A router for that device."""

    def make_firewall(self, tun_name: str) -> Firewall:
        """A firewall for that device."""

    def make_dns(self, tun_name: str) -> DnsConfigurator:
        """How this host resolves names, with that device."""

    def make_monitor(self, tun_name: str) -> NetworkMonitor:
        """A watch over the host's network, without that device."""

    def make_datapath(self) -> Datapath:
        """A datapath that has not started."""

    def make_handshakes(self, private: NodePrivate) -> Handshakes:
        """What computes WireGuard's handshakes of a key; it goes with the datapath."""

    def make_sites(self, set_socket: Callable[[int | None], None]) -> Sites:
        """A router of sites; ``set_socket`` is the datapath's ``set_sites``."""

    def local_networks(self) -> tuple[IPNetwork, ...]:
        """The prefixes of this host's links, now."""

    def listeners(self) -> tuple[Listener, ...]:
        """Who takes TCP connections here, now.  Takes some milliseconds, and never fails."""

    def udp_gro_problem(self, tun_name: str, uplink: str) -> str:
        """What makes UDP slow that is forwarded between these devices; empty if nothing does."""

    def set_udp_gro(self, tun_name: str, uplink: str) -> None:
        """Make UDP quick that is forwarded between these devices; raises ``PlatformError``."""

    def strict_filter(self) -> bool:
        """Answers that come by another way than they would be sent are dropped."""

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """Why a subnet router of these families does not work; empty if it does."""


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """Flags of the daemon that concern the tunnel."""

    port: int = 0
    ca_file: str | None = None
    always_derp: bool = False
    never_direct: bool = False
    probe_mtu: bool | None = None  # `None` leaves it to control
    offload: Offload = PLAIN
    tun_tcp_gro: bool = True
    tun_udp_gro: bool = True
    datapath_threads: int = 1
    derp_over_http: bool = False
    map_protocols: frozenset[MapProtocol] = frozenset(MapProtocol)
