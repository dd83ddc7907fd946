"""This machine as the backend sees it: the operating system's ports, or none, and a datapath."""

import logging
import socket
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import NamedTuple

from tailnet.agent import clock
from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend.login import Host
from tailnet.agent.backend.tunnel.interface import Sites
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.datapath.native import AeadChoice, NativeDatapath, why_not
from tailnet.agent.keys import NodePrivate
from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.native import native_stack
from tailnet.agent.netstack.sites.aio import SiteRouter, StackSites
from tailnet.agent.noise.wireguard.interface import Handshakes
from tailnet.agent.noise.wireguard.native import NativeHandshakes
from tailnet.platform.absent import NoBypass, NoDns, NoFirewall
from tailnet.platform.interface import (
    Bypass,
    DnsConfigurator,
    Firewall,
    Gateways,
    NetworkMonitor,
    PlatformError,
    Router,
    TunDevice,
)
from tailnet.platform.system import Listener, Platform

log = logging.getLogger("tailnet.main")


class DatapathChoice(StrEnum):
    """Values of ``--datapath``."""

    AUTO = "auto"
    NATIVE = "native"
    REFERENCE = "reference"


class DatapathWish(NamedTuple):
    """Which datapath is asked for, and what the native one is to cipher with."""

    kind: DatapathChoice
    aead: AeadChoice = AeadChoice.AUTO


class Machine:
    """A ``backend.tunnel`` ``System``.

    Args:
        platform: the operating system.
        tun_name: of the device to open.
        datapath: which one to make.
        userspace: our own stack, which takes the kernel's place.
        service_fd: packet socket of our services.
    """

    def __init__(
        self,
        platform: Platform,
        tun_name: str,
        datapath: DatapathWish,
        userspace: Userspace | None,
        service_fd: int,
    ) -> None:
        self._platform = platform
        self._tun_name = tun_name
        self._datapath = datapath
        self._userspace = userspace
        self._service_fd = service_fd
        # Without routes of ours nothing can come back into the tunnel.
        self.bypass: Bypass = platform.bypass(tun_name) if userspace is None else NoBypass()
        self.gateways: Gateways = platform.gateways()
        self.host = Host(
            hostname=socket.gethostname().partition(".")[0],
            userspace=userspace is not None,
            **asdict(platform.describe()),
        )

    def open_tun(self, queues: int) -> TunDevice:
        """The device named by ``--tun``."""
        if self._userspace is not None:
            return self._userspace.open_tun()
        return self._platform.open_tun(self._tun_name, queues=queues)

    def make_router(self, tun_name: str) -> Router:
        """The platform's, or the stack that needs only to know."""
        return self._userspace if self._userspace is not None else self._platform.router(tun_name)

    def make_firewall(self, tun_name: str) -> Firewall:
        """The platform's; nothing comes to the kernel from a userspace tunnel."""
        return NoFirewall() if self._userspace is not None else self._platform.firewall(tun_name)

    def make_dns(self, tun_name: str) -> DnsConfigurator:
        """The platform's; a userspace tunnel is not for the host's programs."""
        if self._userspace is not None:
            return NoDns(self._platform.programs_ask)
        return self._platform.dns(tun_name)

    def make_monitor(self, tun_name: str) -> NetworkMonitor:
        """The platform's."""
        return self._platform.monitor(tun_name)

    def _not_native(self) -> str:
        return "asked for" if self._datapath.kind is DatapathChoice.REFERENCE else why_not()

    def make_datapath(self) -> Datapath:
        """The native one if it is there, unless ``--datapath`` says otherwise."""
        reason = self._not_native()
        made = _reference() if reason else NativeDatapath(aead=self._datapath.aead)
        line = "packets are moved by the %s datapath %s, ciphered by %s%s"
        log.info(line, *made.about, f" ({reason})" if reason else "")
        made.set_service(self._service_fd)
        return made

    def make_handshakes(self, private: NodePrivate) -> Handshakes:
        """In Rust where the packets are."""
        return _reference_handshakes(private) if self._not_native() else NativeHandshakes(private)

    def make_sites(self, set_socket: Callable[[int | None], None]) -> Sites:
        """A stack of its own, while there are any; without a device the one that is there."""
        if self._userspace is not None:
            return StackSites(self._userspace)
        return SiteRouter(native_stack(), set_socket, now=clock.now)

    def local_networks(self) -> tuple[IPNetwork, ...]:
        """Of all links; a userspace node is no exit node of its own host."""
        return self._platform.local_networks()

    def listeners(self) -> tuple[Listener, ...]:
        """Of the host, also where the tunnel is not the kernel's: its services are reachable."""
        return self._platform.listeners()

    def udp_gro_problem(self, tun_name: str, uplink: str) -> str:
        """The platform's, where the kernel forwards."""
        if self._userspace is not None:
            return ""
        return self._platform.udp_gro_problem(tun_name, uplink)

    def set_udp_gro(self, tun_name: str, uplink: str) -> None:
        """The platform's, where the kernel forwards."""
        if self._userspace is not None:
            msg = "the kernel forwards nothing of userspace networking"
            raise PlatformError(msg)
        self._platform.set_udp_gro(tun_name, uplink)

    def strict_filter(self) -> bool:
        """The platform's, where the kernel forwards."""
        return self._userspace is None and self._platform.strict_filter()

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """The platform's; a userspace router does not need the kernel."""
        if self._userspace is not None:
            return ""
        return self._platform.forwarding_problem(v4=v4, v6=v6)


def _reference() -> Datapath:
    from tailnet.agent.datapath.reference.aio import (  # noqa: PLC0415 - memory; see docs/performance.md
        ReferenceDatapath,
    )

    return ReferenceDatapath(now=clock.now)


def _reference_handshakes(private: NodePrivate) -> Handshakes:
    from tailnet.agent.noise.wireguard.reference import (  # noqa: PLC0415 - memory
        ReferenceHandshakes,
    )

    return ReferenceHandshakes(private)
