"""The tunnel: device, router, data plane, paths and relays, opened and closed as one."""

import logging
import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import datetime

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.host.aio import HostNetwork
from tailnet.agent.backend.plan import Plan
from tailnet.agent.backend.tunnel.device import take
from tailnet.agent.backend.tunnel.diagnosis.aio import Diagnosis
from tailnet.agent.backend.tunnel.forwarding.aio import Forwarding
from tailnet.agent.backend.tunnel.interface import EMPTY, System, TunnelSettings
from tailnet.agent.backend.tunnel.messages.aio import Messages
from tailnet.agent.backend.tunnel.pings.aio import Pings
from tailnet.agent.backend.tunnel.tables.aio import Tables
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.aio import Dataplane
from tailnet.agent.datapath.interface import About, Activity
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePrivate, NodePublic, PeerId
from tailnet.agent.magicsock.aio import Magicsock
from tailnet.agent.magicsock.sockets.aio import Sockets
from tailnet.agent.portmap.aio import PortMapper
from tailnet.agent.relay.aio import PeerRelay
from tailnet.agent.slices import Steps
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import NetInfo
from tailnet.agent.tasks import Tasks
from tailnet.agent.wireguard.engine import Engine
from tailnet.agent.wireguard.events import PeerStatus
from tailnet.platform.interface import DnsConfigurator, NetworkMonitor

log = logging.getLogger("tailnet.tunnel")


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
        before_none: Callable[[], Awaitable[None]],
    ) -> None:
        """``on_change``: endpoints, net info, relays, or the router's success changed.

        ``on_session``: a session was made; ``on_disco_key``: a peer told us its key through it.
        ``before_none``: comes before the last route goes.
        """
        self._system = system
        self._settings = settings
        self._now = now
        self._on_change = on_change
        self._before_none = before_none
        self._tasks = Tasks()
        self._host: HostNetwork | None = None
        self.device = ""
        self._failing = False
        self._routed = EMPTY  # the plan that the host was told
        self._derp_map: DERPMap | None = None
        self.idle = EMPTY  # the plan while there is no network
        self.endpoints: tuple[tuple[AddrPort, int], ...] = ()
        self.net_info: NetInfo | None = None
        self.live_relays: frozenset[int] = frozenset()
        self._datapath = system.make_datapath()
        self.sites = system.make_sites(self._datapath.set_sites)
        self.forwarding = Forwarding(system, self.sites, lambda: self.device)
        self.datapath_threads = 1  # that encrypt
        self._engine = Engine(
            node_key,
            handshakes=system.make_handshakes,
            random_bytes=random_bytes,
            activity=self._datapath.activity,
        )
        self._derp = DerpFleet(
            node_key,
            on_packets=self._relayed,
            on_live=self._relays_live,
            on_health=on_change,
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
            on_port=self._port_changed,
            always_derp=settings.always_derp,
            never_direct=settings.never_direct,
            probe_mtu=settings.probe_mtu or False,
            offload=settings.offload,
        )
        self._sock.set_node_key(node_key)
        self.portmapper = PortMapper(
            system.gateways,
            mark=system.bypass.mark,
            now=now,
            random_bytes=random_bytes,
            on_change=self._sock.set_portmap,
            protocols=settings.map_protocols,
        )
        self.peer_relay = PeerRelay(
            Sockets(system.bypass.mark, settings.offload).bind,
            resolve=self._sock.resolve,
            versions=self._sock.ip_versions,
            now=now,
            random_bytes=random_bytes,
        )
        self.pings = Pings(
            self._sock,
            self._datapath,
            userspace=system.host.userspace,
            now=now,
            random_bytes=random_bytes,
        )
        self.messages = Messages(self._datapath, self.pings, public_of(disco), on_disco_key)
        self._dataplane = Dataplane(
            self._datapath,
            self._engine,
            self._sock,
            now=now,
            wall=wall,
            to_agent=self.messages.handle,
            on_failed=on_failed,
            on_established=on_session,
        )
        self._tables = Tables(
            self._datapath,
            self._dataplane,
            self._sock,
            local_networks=system.local_networks,
            set_routes=self._set_routes,
        )
        self.diagnosis = Diagnosis(
            datapath=self._datapath,
            dataplane=self._dataplane,
            sock=self._sock,
            derp=self._derp,
            tables=self._tables,
            portmapper=self.portmapper,
            peer_relay=self.peer_relay,
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
                before_none=self._before_none,
            )
            await self._host.open()
            self.device = device.name
            self._sock.skip_interface(device.name)
            ports = self._sock.bind(self._settings.port)
            tun = take(device, self._settings)
            self.datapath_threads = 1 + len(tun.more)
        finally:
            device.close()
        self._sock.attach(self._datapath, self._dataplane)
        self._dataplane.start(tun, ports)
        self._derp.start()
        self._sock.start()
        self._host.start()
        self.portmapper.start()

    def make_dns(self) -> DnsConfigurator:
        """For the open device."""
        return self._system.make_dns(self.device)

    def make_monitor(self) -> NetworkMonitor:
        """Of all but the open device."""
        return self._system.make_monitor(self.device)

    def failing(self) -> None:
        """The end that comes is nobody's wish: until the next start nothing may leak."""
        self._failing = True

    async def close(self) -> None:
        """Routes and rules first, so that nothing is sent into a dead device."""
        await self._tasks.close()
        await self.portmapper.close()
        self.peer_relay.close()
        if self._host is not None:
            await self._host.close(leak_guard=self._failing)
        await self.sites.close()
        await self._sock.close()
        await self._derp.close()
        self._dataplane.stop()

    # --- wishes

    def set_node_key(self, key: NodePrivate) -> None:
        """A new identity: sessions end, relays reconnect."""
        self._sock.set_node_key(key)
        self._derp.set_node_key(key)
        self._dataplane.set_private_key(key)

    def set_disco_key(self, disco: DiscoPrivate) -> None:
        """Paths are found by another key from now on; control must be told."""
        self._sock.set_disco_key(disco)

    def network_changed(self, addresses: Collection[IPAddress]) -> None:
        """Sockets and paths of before are worth nothing; sessions are.

        ``addresses``: see :meth:`check_relays`.
        """
        self.check_relays(addresses)
        self._sock.rebind()
        self.peer_relay.network_changed()
        self.host_changed()

    def host_changed(self) -> None:
        """Devices, addresses or routes of the host are others."""
        self.portmapper.network_changed()
        self._tables.local_changed()
        if self._host is not None:
            self._host.links_changed()

    def check_relays(self, addresses: Collection[IPAddress]) -> None:
        """Relays reached from other addresses are lost; the others must answer within 3 s."""
        self._derp.link_changed(addresses)

    def rebind(self) -> None:
        """New sockets on the same port, and every path is searched again."""
        self._sock.rebind()

    def restun(self) -> None:
        """Find out again where we are."""
        self._sock.restun()

    def repair(self) -> None:
        """Somebody removed addresses, routes or rules of ours: put them back, soon."""
        if self._host is not None:
            self._host.repair()

    def set_derp_map(self, derp_map: DERPMap) -> None:
        """Relays; the home connection is kept from now on.  An empty map hangs up on all."""
        if derp_map is not self._derp_map:
            self._derp_map = derp_map
            self._derp.set_map(derp_map)
            self._sock.set_derp_map(derp_map)
            self.peer_relay.set_derp_map(derp_map)
            self._map_port()

    def _map_port(self) -> None:
        wanted = self._derp_map is not None and self._derp_map.regions and self._sock.has_ipv4
        self.portmapper.set_port(self._sock.local_port if wanted else 0)

    def _port_changed(self) -> None:
        """Router and firewall let another one in."""
        self._map_port()
        self._set_routes(self._routed)
        self._on_change()

    def apply(self, plan: Plan | None, alive: PeerId | None = None) -> Steps[None]:
        """Follow ``plan``, in slices; ``None`` is "no network".  See :meth:`Tables.apply`."""
        return self._tables.apply(plan, self.idle, alive)

    def _set_routes(self, plan: Plan) -> None:
        self._routed = plan
        self._set_relaying(plan)
        self.sites.want(plan.local)
        told = plan.attributes
        self.portmapper.allow(mapping=not told.only_relays, upnp=told.uses_upnp)
        self._sock.set_measuring(portals=told.looks_for_portals, only_https=told.only_relays)
        if plan is not self.idle:  # which keeps the sockets it has
            self._sock.set_port(0 if told.random_port else self._settings.port)
            probe = self._settings.probe_mtu
            self._sock.set_probe_mtu(enabled=told.probes_mtu if probe is None else probe)
        if self._host is not None:
            ports = frozenset(p for p in (self._sock.local_port, self.peer_relay.port) if p)
            self._host.want(plan.router, replace(plan.firewall, ports=ports))

    def _set_relaying(self, plan: Plan) -> None:
        """Use peer relays, and be one, as the plan says."""
        wish = plan.relay_server
        self.peer_relay.want(*(wish if wish is not None else (None,)))
        self._sock.set_relaying(
            enabled=plan.attributes.uses_relays,
            allocate=self.peer_relay.allocate if self.peer_relay.running else None,
        )

    def set_open(self, ports: tuple[AddrPort, ...]) -> None:
        """Peers may connect to these, which judge by themselves who may what."""
        self.messages.open = ports
        self._tables.set_open(ports)

    # --- what is

    @property
    def has_udp(self) -> bool:
        """A UDP socket of IPv4 is bound; true before there is any."""
        return self._sock.has_ipv4 or not self._sock.local_port

    @property
    def port_problem(self) -> str:
        """Why the UDP port is not the one that the user chose; empty if it is."""
        return self._sock.port_problem

    @property
    def routed(self) -> bool:
        """The kernel has what the last plan wants."""
        return self._host is not None and self._host.settled

    async def done(self) -> None:
        """Until the host has what it was told last, or refused it."""
        if self._host is not None:
            await self._host.done()

    @property
    def router_problem(self) -> str:
        """Why the kernel refused the routes; empty if it did not."""
        return self._host.routes.problem if self._host is not None else ""

    @property
    def firewall_problem(self) -> str:
        """Why the kernel refused the firewall; empty if it did not."""
        return self._host.rules.problem if self._host is not None else ""

    @property
    def obstacles(self) -> tuple[str, str]:
        """What of others' comes before the routes, and what overrules the firewall; for people."""
        return self._host.obstacles if self._host is not None else ("", "")

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

    # --- what happens

    def _own_endpoints(self, endpoints: tuple[tuple[AddrPort, int], ...]) -> None:
        self.endpoints = endpoints
        self.peer_relay.set_hosts(addr.ip for addr, _ in endpoints)
        self._on_change()

    def _own_net_info(self, net_info: NetInfo) -> None:
        self.net_info = net_info
        self._on_change()

    def _relays_live(self, regions: frozenset[int]) -> None:
        self.live_relays = regions
        self._sock.handle_live(regions)
        self._on_change()

    def _relayed(self, region: int, key: NodePublic, datagrams: list[bytes]) -> None:
        self._sock.handle_derp(region, key, datagrams)

    def has_direct_path(self, peer: PeerId) -> bool:
        """Packets go there without any relay."""
        return (path := self._sock.status(peer)) is not None and isinstance(path.cur, AddrPort)
