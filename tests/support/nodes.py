"""Whole nodes in one process: real control server, real relay, doubles of the platform only."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from integration.lab.control import ControlServer
from integration.lab.derp import DerpServer
from integration.lab.tls import make_server_tls
from tests.support.control import serving, settings

from tailnet.agent import clock
from tailnet.agent.addr import IPAddress, IPNetwork
from tailnet.agent.backend.aio import Node, NodeSettings
from tailnet.agent.backend.events import NodeEvent
from tailnet.agent.backend.files.aio import ConfigFile, StateFile, StateStore
from tailnet.agent.backend.login import Host
from tailnet.agent.backend.state import State
from tailnet.agent.backend.tunnel.interface import TunnelSettings
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.dns.upstream import Https
from tailnet.agent.errors import UserError
from tailnet.agent.keys import NodePrivate
from tailnet.agent.netstack.native import native_stack
from tailnet.agent.netstack.sites.aio import SiteRouter
from tailnet.agent.noise.wireguard.reference import ReferenceHandshakes
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion
from tailnet.platform.fake import (
    FakeBypass,
    FakeDns,
    FakeFirewall,
    FakeGateways,
    FakeMonitor,
    FakeRouter,
    FakeTun,
)
from tailnet.platform.interface import Bypass, Gateways
from tailnet.platform.system import Listener

REGION = 900


class FakeSystem:
    """A machine whose kernel is two sockets and a dictionary."""

    def __init__(self, hostname: str) -> None:
        self.host = Host(hostname=hostname)
        self.bypass: Bypass = FakeBypass()
        self.gateways: Gateways = FakeGateways()
        self.router = FakeRouter()
        self.firewall = FakeFirewall()
        self.tun = FakeTun()
        self.dns = FakeDns(split=True)
        self.monitor = FakeMonitor()
        self.forwarding = ""
        self.strict = False
        self.listening: tuple[Listener, ...] = ()

    def open_tun(self, queues: int) -> FakeTun:
        """The device; ``tun.far`` is the kernel's side."""
        assert queues == 1
        return KeptTun(self.tun)

    def make_router(self, tun_name: str) -> FakeRouter:
        """The one router."""
        assert tun_name == self.tun.name
        return self.router

    def make_firewall(self, tun_name: str) -> FakeFirewall:
        """It remembers, and that is all."""
        del tun_name
        return self.firewall

    def make_dns(self, tun_name: str) -> FakeDns:
        """The one host."""
        assert tun_name == self.tun.name
        return self.dns

    def make_monitor(self, tun_name: str) -> FakeMonitor:
        """Silent until the test speaks."""
        assert tun_name == self.tun.name
        return self.monitor

    def make_datapath(self) -> ReferenceDatapath:
        """The pure-Python one."""
        return ReferenceDatapath(now=clock.now)

    def make_handshakes(self, private: NodePrivate) -> ReferenceHandshakes:
        """The pure-Python ones."""
        return ReferenceHandshakes(private)

    def make_sites(self, set_socket: Callable[[int | None], None]) -> SiteRouter:
        """The real one."""
        return SiteRouter(native_stack(), set_socket, now=clock.now)

    def local_networks(self) -> tuple[IPNetwork, ...]:
        """None."""
        return ()

    def listeners(self) -> tuple[Listener, ...]:
        """As the test says."""
        return self.listening

    def udp_gro_problem(self, tun_name: str, uplink: str) -> str:
        """Nothing to gain."""
        del tun_name, uplink
        return ""

    def set_udp_gro(self, tun_name: str, uplink: str) -> None:
        """Nothing to do."""
        del tun_name, uplink

    def strict_filter(self) -> bool:
        """As the test says."""
        return self.strict

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """As the test says, for IPv4."""
        return self.forwarding if v4 else ""


async def no_https(to: Https, message: bytes) -> bytes:
    """Nobody is asked by HTTP."""
    del to, message
    raise OSError


class KeptTun(FakeTun):
    """A device whose far side stays open when the daemon has taken the descriptor."""

    def __init__(self, inner: FakeTun) -> None:
        self.name, self.mtu = inner.name, inner.mtu
        self.vnet_hdr, self.uso = inner.vnet_hdr, inner.uso
        self._inner = inner

    def detach(self) -> int:
        """The descriptor."""
        return self._inner.detach()

    def close(self) -> None:
        """Nothing: the test closes the far side."""


class Member:
    """A node and what it told."""

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        auth_key: str = "",
        keep_map: bool = True,
        config: ConfigFile | None = None,
        store: StateStore | None = None,
        wall: Callable[[], datetime] = clock.wall,
    ) -> None:
        self.system = FakeSystem(name)
        self.events: list[NodeEvent] = []
        self.failures: list[str] = []
        self._changed = asyncio.Event()
        wanted = NodeSettings(
            tunnel=TunnelSettings(), auth_key=auth_key, keep_map=keep_map, config=config
        )
        try:
            self.node = Node(
                self.system,
                wanted,
                store or StateFile(directory / f"{name}.state"),
                MagicDns(Forwarder(no_https, random_bytes=os.urandom), lambda: 0.0),
                now=clock.now,
                wall=wall,
                random_bytes=os.urandom,
                on_failed=self.failures.append,
            )
        except UserError:
            self.system.tun.close()
            raise
        self.node.watch(self._heard)

    def _heard(self, event: NodeEvent) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; it is looked at after each event."""
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def peers(self, count: int) -> None:
        """Return when the node knows that many peers."""
        await self.until(
            lambda: self.node.netmap is not None and len(self.node.netmap.peers) == count
        )

    async def state(self, state: State) -> None:
        """Return when the node is in ``state``."""
        await self.until(lambda: self.node.state is state)

    @property
    def ip(self) -> IPAddress:
        """Its first tailnet address."""
        assert self.node.netmap is not None
        return self.node.netmap.self_node.ips()[0]

    async def send(self, packet: bytes) -> None:
        """As the kernel would, into the tunnel."""
        await asyncio.get_running_loop().sock_sendall(self.system.tun.far, packet)

    async def receive(self) -> bytes:
        """What comes out of the tunnel, to the kernel."""
        async with asyncio.timeout(10):
            return await asyncio.get_running_loop().sock_recv(self.system.tun.far, 1 << 16)


def echo_request(src: IPAddress, dst: IPAddress, sequence: int) -> bytes:
    """An IPv4 ICMP echo request with right checksums."""
    icmp = struct.pack("!BBHHH", 8, 0, 0, 1, sequence)
    icmp = icmp[:2] + struct.pack("!H", _checksum(icmp)) + icmp[4:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0)
    head += src.packed + dst.packed
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + icmp


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@asynccontextmanager
async def tailnet() -> AsyncIterator[str]:
    """A control server with one relay; its URL."""
    async with tailnet_server() as server:
        yield server.origin


@asynccontextmanager
async def tailnet_server() -> AsyncIterator[ControlServer]:
    """A control server with one relay, which stays when the server is stopped."""
    tls, pin, _ = make_server_tls(["127.0.0.1"])
    relay = DerpServer(
        NodePrivate.from_random(os.urandom(32)), now=clock.now, random_bytes=os.urandom
    )
    await relay.start("127.0.0.1", 0, tls)
    derp_map = DERPMap(
        regions={
            REGION: DERPRegion(
                region_id=REGION,
                region_code="lab",
                region_name="Lab",
                nodes=(
                    DERPNode(
                        name="900a",
                        region_id=REGION,
                        host_name="127.0.0.1",
                        cert_name=f"sha256-raw:{pin}",
                        ipv4="127.0.0.1",
                        ipv6="none",
                        derp_port=relay.port,
                        stun_port=-1,
                    ),
                ),
            )
        }
    )
    try:
        async with serving(replace(settings(), derp_map=derp_map)) as server:
            yield server
    finally:
        await relay.stop()


@asynccontextmanager
async def running(member: Member) -> AsyncIterator[Member]:
    """Started, and closed in the end."""
    try:
        await member.node.start()
        yield member
    finally:
        await member.node.close()
        member.system.tun.close()


__all__ = ["Member", "echo_request", "running", "tailnet", "tailnet_server"]
