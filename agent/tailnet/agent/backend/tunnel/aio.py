"""The tunnel: device, router, data plane, paths and relays, opened and closed as one."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from tailnet.agent.addr import AddrPort, IPAddress, IPNetwork
from tailnet.agent.backend.exitnode import without_ours
from tailnet.agent.backend.host.aio import HostNetwork
from tailnet.agent.backend.login import Host
from tailnet.agent.backend.peerplan import PeerPlan, less
from tailnet.agent.backend.plan import Plan
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath import pcapng, tsmp
from tailnet.agent.datapath.aio import Dataplane
from tailnet.agent.datapath.capture.aio import Capture
from tailnet.agent.datapath.interface import About, Activity, Datapath, TunPort
from tailnet.agent.datapath.rejections import Rejections
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.echo.aio import echo
from tailnet.agent.errors import UserError
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePrivate, NodePublic, PeerId
from tailnet.agent.magicsock.aio import Magicsock, PingReply
from tailnet.agent.magicsock.sockets.offload import PLAIN, Offload
from tailnet.agent.netcheck.report import Report
from tailnet.agent.portmap.aio import PortMapper
from tailnet.agent.portmap.interface import Portmap
from tailnet.agent.portmap.interface import Protocol as MapProtocol
from tailnet.agent.slices import SLICE, Steps, sliced
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import NetInfo
from tailnet.agent.tasks import Tasks
from tailnet.agent.wireguard.engine import Engine
from tailnet.agent.wireguard.events import PeerState, PeerStatus
from tailnet.platform.interface import (
    Bypass,
    DnsConfigurator,
    Firewall,
    FirewallConfig,
    Gateways,
    NetfilterMode,
    Router,
    RouterConfig,
    TunDevice,
)

log = logging.getLogger("tailnet.tunnel")

EMPTY = Plan(
    peers={},
    local=(),
    filter=Filter.shields_up(),
    router=RouterConfig(),
    firewall=FirewallConfig(mode=NetfilterMode.OFF),
    derp_map=DERPMap(),
)


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

    def make_datapath(self) -> Datapath:
        """A datapath that has not started."""

    def local_networks(self) -> tuple[IPNetwork, ...]:
        """The prefixes of this host's links, now."""

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """Why a subnet router of these families does not work; empty if it does."""


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """Flags of the daemon that concern the tunnel."""

    port: int = 0
    ca_file: str | None = None
    always_derp: bool = False
    never_direct: bool = False
    offload: Offload = PLAIN
    tun_tcp_gro: bool = True
    tun_udp_gro: bool = True
    datapath_threads: int = 1
    derp_over_http: bool = False
    map_protocols: frozenset[MapProtocol] = frozenset(MapProtocol)


class Tunnel:
    """Carries packets as the last plan says; knows nothing of prefs, login or state."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        system: System,
        settings: TunnelSettings,
        disco: DiscoPrivate,
        node_key: NodePrivate,
        *,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        on_change: Callable[[], None],
        on_failed: Callable[[str], None],
        on_session: Callable[[PeerId], None],
        on_disco_key: Callable[[PeerId, DiscoPublic], None],
    ) -> None:
        """``on_change``: endpoints, net info, live relays, or the router's success changed.

        ``on_session``: a session was made; ``on_disco_key``: a peer told us its key through it.
        """
        self._system = system
        self._settings = settings
        self._now = now
        self._on_change = on_change
        self._on_disco_key = on_disco_key
        self._disco = public_of(disco)
        self._random_bytes = random_bytes
        self._pongs: dict[tuple[PeerId, bytes], asyncio.Future[float]] = {}
        self._tasks = Tasks()
        self._host: HostNetwork | None = None
        self._netcheck_turn = asyncio.Lock()
        self._capture: Capture | None = None
        self._device = ""
        self._local: tuple[IPNetwork, ...] | None = None
        self._filter: Filter | None = None
        self._wanted = RouterConfig()
        self._peers: dict[PeerId, PeerPlan] = {}  # what the tables have
        self._left: set[PeerId] = set()  # whose sessions we ended by going down
        self._derp_map: DERPMap | None = None
        self.idle = EMPTY  # the plan while there is no network
        self.endpoints: tuple[tuple[AddrPort, int], ...] = ()
        self.net_info: NetInfo | None = None
        self.live_relays: frozenset[int] = frozenset()
        self._datapath = system.make_datapath()
        self.datapath_threads = 1  # that encrypt
        self._engine = Engine(node_key, random_bytes=random_bytes, activity=self._datapath.activity)
        self._derp = DerpFleet(
            node_key,
            on_packets=self._relayed,
            on_live=self._relays_live,
            mark=system.bypass.mark,
            now=now,
            random_bytes=random_bytes,
            ca_file=settings.ca_file,
            plain_http=settings.derp_over_http,
            environ=os.environ,
        )
        self._sock = Magicsock(
            disco,
            self._derp,
            now=now,
            random_bytes=random_bytes,
            mark=system.bypass.mark,
            on_endpoints=self._own_endpoints,
            on_netinfo=self._own_net_info,
            always_derp=settings.always_derp,
            never_direct=settings.never_direct,
            offload=settings.offload,
        )
        self._sock.set_node_key(node_key)
        self.portmapper = PortMapper(
            system.gateways,
            mark=system.bypass.mark,
            now=now,
            random_bytes=random_bytes,
            on_change=self._mapped,
            protocols=settings.map_protocols,
        )
        self._dataplane = Dataplane(
            self._datapath,
            self._engine,
            self._sock,
            now=now,
            wall=wall,
            to_agent=self._to_agent,
            on_failed=on_failed,
            on_established=on_session,
        )

    @property
    def about(self) -> About:
        """Which datapath moves the packets."""
        return self._datapath.about

    # --- life

    async def open(self) -> None:
        """Open the device and the sockets, install the policy rules, start moving packets.

        Raises:
            PlatformError: the system refuses; nothing is left behind after ``close``.
        """
        threads = self._settings.datapath_threads
        device = self._system.open_tun(threads if self._datapath.threaded else 1)
        try:
            self._host = HostNetwork(
                self._system.make_router(device.name),
                self._system.make_firewall(device.name),
                now=self._now,
                on_change=self._on_change,
            )
            await self._host.open()
            self._device = device.name
            self._sock.skip_interface(device.name)
            ports = self._sock.bind(self._settings.port)
            tun = self._tun_port(device)
        finally:
            device.close()
        self._sock.attach(self._datapath, self._dataplane.handle_relayed)
        self._dataplane.start(tun, ports)
        self._derp.start()
        self._sock.start()
        self._host.start()
        self.portmapper.start()

    def make_dns(self) -> DnsConfigurator:
        """For the open device."""
        return self._system.make_dns(self._device)

    def _tun_port(self, device: TunDevice) -> TunPort:
        """Take the device over, with the offloads that work and are wanted."""
        joined = device.vnet_hdr and device.probe()
        if joined < device.vnet_hdr:
            log.warning("%s: this kernel refuses joined packets; writing them singly", device.name)
        tso = joined and self._settings.tun_tcp_gro
        uso = joined and device.uso and self._settings.tun_udp_gro
        more = device.detach_more()
        self.datapath_threads = 1 + len(more)
        return TunPort(device.detach(), device.mtu, device.vnet_hdr, uso, tso, more)

    async def close(self) -> None:
        """Routes and rules first, so that nothing is sent into a dead device."""
        await self._tasks.close()
        await self.portmapper.close()
        if self._host is not None:
            await self._host.close()
        await self._sock.close()
        await self._derp.close()
        self._dataplane.stop()

    # --- wishes

    def set_node_key(self, key: NodePrivate) -> None:
        """A new identity: sessions end, relays reconnect."""
        self._sock.set_node_key(key)
        self._derp.set_node_key(key)
        self._dataplane.set_private_key(key)

    def set_derp_map(self, derp_map: DERPMap) -> None:
        """Relays; the home connection is kept from now on.  An empty map hangs up on all."""
        if derp_map is not self._derp_map:
            self._derp_map = derp_map
            self._derp.set_map(derp_map)
            self._sock.set_derp_map(derp_map)
            wanted = bool(derp_map.regions) and self._sock.has_ipv4
            self.portmapper.set_port(self._sock.local_port if wanted else 0)

    def apply(self, plan: Plan | None, alive: PeerId | None = None) -> Steps[None]:
        """Make the packets' tables and the kernel's follow ``plan``, in slices; each as a diff.

        First take away, then change the rules, then give: at no stop can a peer do what neither
        plan lets it do.  If it is given up, the next call must be for a plan with all peers.

        ``None`` is "no network": nothing gets in, and the host is as :attr:`idle` says, from the
        first slice on.  ``alive``: a peer whose new disco key came through its session, which
        therefore is good.
        """
        down = plan is None
        if plan is None:
            plan = self.idle
            self._set_rules(plan)
            self._set_routes(plan)
        changed = plan.changed
        news = plan.peers if changed is None else {p: plan.peers.get(p) for p in changed}
        for part in sliced(list(less(self._peers, news, everything=changed is None).items())):
            if down:
                self._left |= self._with_session(peer for peer, _ in part)
            self._change_peers(dict(part))
            if len(part) == SLICE:
                yield
        self._set_rules(plan)
        restarted: set[PeerId] = set()
        for part in sliced([(p, n) for p, n in news.items() if n is not None]):
            restarted |= self._restarted(part) - {alive}
            self._change_peers(dict(part))
            if len(part) == SLICE:
                yield
        if changed is None and list(self._peers) != list(plan.peers):
            # All of it was said, in parts; but of two peers that claim one prefix the last of all
            # has it, and in the tables another may be the last.
            self._peers = dict(plan.peers)
            self._dataplane.set_peers({p: (peer.key, peer.entry) for p, peer in plan.peers.items()})
        left = self._left & plan.peers.keys()
        self._left -= left
        for peer in self._with_session(restarted) | left:
            self._dataplane.want_session(peer)
        self._set_routes(plan)
        if not down:
            self._sock.set_telling(plan.telling)

    def _set_rules(self, plan: Plan) -> None:
        local = plan.local
        if any(net.prefixlen == 0 for net in local):
            local = without_ours(local, self._system.local_networks())
        if local != self._local:
            self._local = local
            self._datapath.set_local(local)
        if plan.filter is not self._filter:
            self._filter = plan.filter
            self._datapath.set_filter(plan.filter)

    def _set_routes(self, plan: Plan) -> None:
        self._wanted = plan.router
        if self._host is not None:
            port = self._sock.local_port
            ports = frozenset((port,) if port else ())
            self._host.want(plan.router, replace(plan.firewall, ports=ports))

    def _change_peers(self, changed: Mapping[PeerId, PeerPlan | None]) -> None:
        """Tell all tables, the datapath first: a path needs its peer there."""
        differ = {p: new for p, new in changed.items() if self._peers.get(p) is not new}
        if not differ:
            return
        for peer, new in differ.items():
            if new is None:
                self._peers.pop(peer, None)
            else:
                self._peers[peer] = new
        self._dataplane.change_peers(
            {p: None if n is None else (n.key, n.entry) for p, n in differ.items()}
        )
        self._sock.change_peers({p: None if n is None else n.info for p, n in differ.items()})

    def _with_session(self, peers: Iterable[PeerId]) -> set[PeerId]:
        return {p for p in peers if self._dataplane.status(p).state is not PeerState.NONE}

    def _restarted(self, peers: Iterable[tuple[PeerId, PeerPlan]]) -> set[PeerId]:
        """Peers with a new disco key: their daemon started anew and has lost our session.

        Without a handshake of ours they would hear nothing for WireGuard's 15 s of patience, and
        the same goes for those whose sessions we lost by going down.
        Source: tailscale wgengine/userspace.go, discoChanged.
        """
        return {
            peer
            for peer, plan in peers
            if (known := self._peers.get(peer)) is not None
            and known is not plan
            and known.info.disco_key != plan.info.disco_key
        }

    async def ping(self, peer: PeerId, wait: float, size: int) -> PingReply | None:
        """A disco ping by every path known; ``None`` when nothing came back in time."""
        return await self._sock.ping(peer, wait, size)

    async def ping_tsmp(
        self, peer: PeerId, src: IPAddress, dst: IPAddress, wait: float
    ) -> float | None:
        """Ask a peer's daemon through the tunnel; the round trip [s], ``None`` without answer.

        Args:
            peer: whom.
            src: our address, of the family of ``dst``.
            dst: the peer's.
            wait: seconds.
        """
        data = self._random_bytes(tsmp.PING_DATA_LEN)
        pong: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._pongs[peer, data] = pong
        began = self._now()
        try:
            async with asyncio.timeout(wait):
                self._datapath.send_plain(peer, [tsmp.encode_ping(src, dst, data)])
                return await pong - began
        except TimeoutError:
            return None
        finally:
            del self._pongs[peer, data]

    async def ping_icmp(self, src: IPAddress, dst: IPAddress, wait: float) -> float | None:
        """Ask a peer's host by an echo request of our kernel; the round trip [s], or ``None``.

        Raises:
            OSError: this system cannot; the text says why.
        """
        if self._system.host.userspace:
            msg = "ICMP ping needs a tunnel device, and this node has none"
            raise OSError(msg)
        return await echo(src, dst, wait, now=self._now, random_bytes=self._random_bytes)

    # --- what is

    @property
    def has_udp(self) -> bool:
        """A UDP socket of IPv4 is bound; true before there is any."""
        return self._sock.has_ipv4 or not self._sock.local_port

    def forwarding_problem(self, routes: Iterable[str]) -> str:
        """Why these subnet routes do not work; empty if they do."""
        v6 = {":" in route for route in routes}
        return self._system.forwarding_problem(v4=False in v6, v6=True in v6) if v6 else ""

    @property
    def routed(self) -> bool:
        """The kernel has what the last plan wants."""
        return self._host is not None and self._host.settled

    @property
    def router_problem(self) -> str:
        """Why the kernel refused the routes; empty if it did not."""
        return self._host.routes.problem if self._host is not None else ""

    @property
    def firewall_problem(self) -> str:
        """Why the kernel refused the firewall; empty if it did not."""
        return self._host.rules.problem if self._host is not None else ""

    @property
    def behind_portal(self) -> bool:
        """The network wants a login by a web page."""
        report = self._sock.measured
        return report is not None and report.portal is True

    async def netcheck(self, derp_map: DERPMap, address: str, port: int) -> tuple[Report, int]:
        """A full measurement from other sockets than ours; one at a time.

        Returns:
            Findings, and the nearest region or 0.

        Raises:
            UserError: that cannot be sent from.
        """
        async with self._netcheck_turn:
            check = self._sock.make_netcheck()
            report, home = await check.run(derp_map, self._sock.ip_versions(), address, port)
        return report, home

    @property
    def relay_problems(self) -> Mapping[int, str]:
        """What relays complain of, by region."""
        return self._derp.health()

    @property
    def magicsock(self) -> Magicsock:
        """For status."""
        return self._sock

    def activity(self, peer: PeerId) -> Activity:
        """Times and counters of a peer."""
        return self._datapath.activity(peer)

    def session(self, peer: PeerId) -> PeerStatus:
        """State of a peer's WireGuard session."""
        return self._dataplane.status(peer)

    def capture(self, application: str) -> Capture:
        """Begin to copy all packets; whoever asked closes it.

        Args:
            application: who says so in the file.

        Raises:
            UserError: there is a capture already.
        """
        if self._capture is not None and not self._capture.closed:
            msg = "a capture is running already; only one can"
            raise UserError(msg)
        head = pcapng.head(application, self._device)
        self._capture = Capture(self._datapath, head, self._name)
        return self._capture

    def _name(self, peer: PeerId) -> str:
        plan = self._peers.get(peer)
        return "" if plan is None else plan.node.base_name

    @property
    def rejections(self) -> Rejections:
        """What peers told us about flows of ours that they do not let in."""
        return self._dataplane.rejections

    def drops(self) -> dict[str, dict[str, int]]:
        """What was not carried or not believed, by layer and reason; only what happened."""
        layers: dict[str, Mapping[str, int]] = {
            "packets": self._datapath.drops(),
            "handshakes": self._dataplane.dropped,
            "rejected": self._dataplane.rejections.counts,
            "disco": self._sock.drops(),
            "relays": self._derp.drops(),
            "portmap": self.portmapper.drops(),
        }
        return {
            layer: {reason: count for reason, count in counts.items() if count}
            for layer, counts in layers.items()
        }

    # --- what happens

    def _own_endpoints(self, endpoints: tuple[tuple[AddrPort, int], ...]) -> None:
        self.endpoints = endpoints
        self._on_change()

    def _own_net_info(self, net_info: NetInfo) -> None:
        self.net_info = net_info
        self._on_change()

    def _mapped(self, portmap: Portmap) -> None:
        self._sock.set_portmap(portmap)

    def _relays_live(self, regions: frozenset[int]) -> None:
        self.live_relays = regions
        self._sock.handle_live(regions)
        self._on_change()

    def _relayed(self, region: int, key: NodePublic, datagrams: list[bytes]) -> None:
        self._sock.handle_derp(region, key, datagrams)

    def _to_agent(self, peer: PeerId, message: tsmp.Message) -> None:
        """TSMP: pings, pongs and disco keys."""
        if isinstance(message, tsmp.Ping):
            self._datapath.send_plain(peer, [tsmp.encode_pong(message, peerapi_port=0)])
        elif isinstance(message, tsmp.Pong):
            pong = self._pongs.get((peer, message.data))
            if pong is not None and not pong.done():
                pong.set_result(self._now())
        elif isinstance(message, tsmp.DiscoKey):
            self._on_disco_key(peer, message.key)

    def tell_disco_key(self, peer: PeerId, src: IPAddress, dst: IPAddress) -> None:
        """Tell a peer our disco key, through the session there is."""
        self._datapath.send_plain(peer, [tsmp.encode_disco_key(src, dst, self._disco)])

    def has_direct_path(self, peer: PeerId) -> bool:
        """Packets go there without a relay."""
        path = self._sock.status(peer)
        return path is not None and path.cur is not None
