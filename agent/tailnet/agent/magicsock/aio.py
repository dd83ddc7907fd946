"""Magicsock's shell: what is wanted of it, and what the network brings."""

import errno
import socket
from collections.abc import Callable, Mapping, Sequence

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.interface import Datapath, Path, UdpPort
from tailnet.agent.datapath.underlay import Overlay
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.disco.envelope import looks_like_disco
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.drain.aio import Drain, PingReply
from tailnet.agent.magicsock.endpoints import Telling
from tailnet.agent.magicsock.handshakes.aio import Handshakes
from tailnet.agent.magicsock.hub import Hub, PathStatus, PeerInfo
from tailnet.agent.magicsock.measure.aio import Measuring
from tailnet.agent.magicsock.report import PathReport
from tailnet.agent.magicsock.sender.aio import Sender
from tailnet.agent.magicsock.sockets.aio import Sockets
from tailnet.agent.magicsock.sockets.offload import PLAIN, Offload
from tailnet.agent.magicsock.via.desk import Allocate
from tailnet.agent.netcheck.aio import Netcheck
from tailnet.agent.netcheck.measurement import Addresses
from tailnet.agent.netcheck.plan import Plan
from tailnet.agent.netcheck.probes.aio import Probes
from tailnet.agent.netcheck.region.aio import RegionCheck
from tailnet.agent.netcheck.report import Report
from tailnet.agent.portmap.interface import Portmap
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import NetInfo
from tailnet.agent.wireguard.session import Source

PROBE_SIZES = (1280, 1360, 1400, 1500, 8000, 9000)  # bytes; magicsock.go, net/tstun/mtu.go
REBIND_INTERVAL = 5.0  # seconds at least between rebinds because sending failed
_DEAD_SOCKET = frozenset({errno.EPIPE, errno.ENOTCONN, errno.EPERM, errno.EBADF})


class Magicsock:
    """Implements :class:`~tailnet.agent.datapath.underlay.Underlay` over UDP and relays."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        disco: DiscoPrivate,
        derp: DerpFleet,
        *,
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        mark: Callable[[socket.socket], None],
        on_endpoints: Callable[[tuple[tuple[AddrPort, int], ...]], None],
        on_netinfo: Callable[[NetInfo], None],
        on_port: Callable[[], None] = lambda: None,
        always_derp: bool = False,
        never_direct: bool = False,
        probe_mtu: bool = False,
        offload: Offload = PLAIN,
    ) -> None:
        """``on_port``: a rebind gave us another port."""
        self._derp = derp
        self._on_port = on_port
        self._now = now
        self._mark = mark
        self._random_bytes = random_bytes
        self._sockets = Sockets(mark, offload, whole=probe_mtu)
        self._hub = Hub(
            disco,
            random_bytes=random_bytes,
            direct=not (always_derp or never_direct),
            sizes=PROBE_SIZES if probe_mtu else (0,),
        )
        self._probes = Probes(
            derp.dialer, mark=mark, now=now, wall=clock.wall, random_bytes=random_bytes
        )
        self._sender = Sender(derp)
        self._measuring = Measuring(
            self._hub,
            derp,
            self._sockets,
            self._probes,
            now=now,
            random_bytes=random_bytes,
            send_udp=self._sender.send_udp,
            pump=self._pump,
            on_endpoints=on_endpoints,
            on_netinfo=on_netinfo,
        )
        self._drain = Drain(self._hub, self._measuring, self._sender, derp, now=now)
        self._handshakes = Handshakes(self._hub, self._sender, derp, now=now, pump=self._pump)
        self._overlay: Overlay | None = None
        self._rebound_at: float | None = None
        self._live: frozenset[int] = frozenset()

    # --- life

    def skip_interface(self, name: str) -> None:
        """Never tell addresses of this interface; our own tunnel's."""
        self._sockets.skip.add(name)

    def bind(self, port: int) -> list[UdpPort]:
        """Bound sockets for the datapath to own; a taken port is replaced by a free one.

        Raises:
            OSError: no UDP socket at all.
        """
        return self._sockets.bind(port)

    def attach(self, datapath: Datapath, overlay: Overlay) -> None:
        """``overlay`` takes what relays bring that is not disco."""
        self._sender.datapath = datapath
        self._overlay = overlay

    def start(self) -> None:
        """Begin; needs a running event loop.  What was asked for before is done now."""
        self._drain.start()

    async def close(self) -> None:
        """Stop everything; the sockets are the datapath's."""
        self._drain.stop()
        await self._measuring.close()

    def on_path(self, told: Callable[[PeerId, Path], None]) -> None:
        """Tell how a peer is reached, whenever that changes."""
        self._drain.on_path = told

    # --- wishes

    @property
    def disco_key(self) -> DiscoPublic:
        """To be published with the endpoints."""
        return self._hub.public

    @property
    def has_ipv4(self) -> bool:
        """A UDP socket of IPv4 is bound."""
        return bool(self._sockets.ports.v4)

    @property
    def port_problem(self) -> str:
        """Why the port is not the one that the user chose; empty if it is."""
        return self._sockets.problem

    @property
    def local_port(self) -> int:
        """The bound port; 0 before :meth:`bind`."""
        return self._sockets.ports.v4 or self._sockets.ports.v6

    @property
    def home(self) -> int:
        """Our home region, 0 if none."""
        return self._measuring.home

    @property
    def endpoints(self) -> tuple[tuple[AddrPort, int], ...]:
        """Own addresses as control was told, with their kinds."""
        return self._measuring.endpoints

    @property
    def net_info(self) -> NetInfo | None:
        """Latest findings, latencies included; ``None`` before the first."""
        return self._measuring.net_info

    @property
    def measured(self) -> Report | None:
        """Latest findings in full."""
        return self._measuring.report

    def make_netcheck(self) -> Netcheck:
        """For one measurement that is independent of ours."""
        return Netcheck(
            self._probes, mark=self._mark, now=self._now, random_bytes=self._random_bytes
        )

    async def resolve(self, plan: Plan) -> Addresses:
        """Addresses of the STUN servers of a plan; names that do not resolve are left out."""
        return await self._probes.addresses(plan)

    def make_region_check(self) -> RegionCheck:
        """For one look at a region's relays."""
        return RegionCheck(
            self._derp.dialer, self.make_netcheck, now=self._now, random_bytes=self._random_bytes
        )

    def ip_versions(self) -> frozenset[int]:
        """Of IP that this machine has addresses of."""
        return self._measuring.versions()

    @property
    def portmap(self) -> Portmap:
        """What the gateway does for us, as last told."""
        return self._measuring.portmap

    def set_told(self, *, told: bool) -> None:
        """Whether control hears of a new home."""
        self._measuring.told = told

    def set_node_key(self, key: NodePrivate | None) -> None:
        """Who we are in pings; ``None`` when logged out."""
        self._hub.set_node_key(NodePublic(bytes(32)) if key is None else public_of(key))

    def set_disco_key(self, disco: DiscoPrivate) -> None:
        """Another key; peers do not answer until control, or we, told them."""
        self._hub.set_disco_key(disco)
        self.restun()

    def force_home(self, region: int | None) -> None:
        """A home region whatever is measured, 0 for none; ``None`` measures again."""
        self._measuring.force_home(region)
        self._pump()

    def pick_home(self) -> bool:
        """Another home until the measurement after the next; false if there is none."""
        picked = self._measuring.pick_home()
        self._pump()
        return picked

    def set_portmap(self, portmap: Portmap) -> None:
        """What the gateway does for us."""
        self._measuring.set_portmap(portmap)
        self._pump()

    def set_telling(self, telling: Telling) -> None:
        """Which of our addresses are told, and which besides."""
        if telling != self._sockets.telling:
            self._sockets.telling = telling
            self._measuring.again()
            self._pump()

    def set_relaying(self, *, enabled: bool, allocate: Allocate | None) -> None:
        """Whether peer relays are used; ``allocate``: we are one ourselves."""
        self._hub.set_relaying(enabled=enabled)
        self._hub.set_allocate(allocate)

    @property
    def relay_servers(self) -> Sequence[PeerId]:
        """Peer relays that we may ask."""
        return tuple(self._hub.relay_servers)

    def set_derp_map(self, derp_map: DERPMap) -> None:
        """Other relays: measure them."""
        self._measuring.set_map(derp_map)
        self._pump()

    def set_peers(self, peers: Mapping[PeerId, PeerInfo]) -> None:
        """All peers.  Call ``Datapath.set_peers`` first: a path needs its peer there."""
        self._hub.set_peers(peers, self._now())
        self._pump()

    def change_peers(self, changed: Mapping[PeerId, PeerInfo | None]) -> None:
        """Only these, ``None`` being gone; again after the datapath."""
        self._hub.change_peers(changed, self._now())
        self._pump()

    def handle_live(self, regions: frozenset[int]) -> None:
        """Relays that accept us now; a home that was lost is measured against the others."""
        lost, self._live = self._live - regions, regions
        if self._measuring.home in lost:
            self._measuring.refresh(full=True)
            self._pump()

    def link_changed(self) -> None:
        """Another network: every path is open again, and our endpoints must be found anew."""
        self._hub.reset(self._now())
        self._measuring.link_changed()
        self._pump()

    def restun(self) -> None:
        """Measure now, once more if that happens already."""
        self._measuring.again()
        self._pump()

    def set_port(self, port: int) -> None:
        """Another port is wanted, 0 for any: new sockets, if there are any."""
        if self._sockets.want(port):
            self.rebind()

    def set_measuring(self, *, portals: bool, only_https: bool) -> None:
        """Whether captive portals are looked for, and nothing but HTTPS is sent."""
        self._measuring.portals = portals
        self._measuring.set_only_https(only=only_https)
        self._pump()

    def set_probe_mtu(self, *, enabled: bool) -> None:
        """Whether the MTU of paths is looked for; sockets then refuse to fragment."""
        self._hub.set_sizes(PROBE_SIZES if enabled else (0,))
        if self._sockets.want_whole(whole=enabled):
            self.rebind()

    def rebind(self) -> None:
        """New sockets, on the same port if possible, then as :meth:`link_changed`."""
        before = self.local_port
        datapath = self._sender.datapath
        if datapath is not None and (opened := self._sockets.rebind()):
            datapath.set_udp(opened)
        if self.local_port != before:
            self._on_port()
        self.link_changed()

    async def ping(self, peer: PeerId, wait: float, size: int = 0) -> PingReply | None:
        """Round trip to a peer by disco; ``None`` if nothing came back within ``wait`` seconds."""
        return await self._drain.ping(peer, wait, size)

    def status(self, peer: PeerId) -> PathStatus | None:
        """The peer's path for people."""
        return self._hub.status(peer)

    def report(self, peer: PeerId) -> PathReport | None:
        """Why the peer's path is as it is."""
        return self._hub.report(peer)

    def drops(self) -> Mapping[str, int]:
        """Disco datagrams ignored, by reason."""
        return self._hub.drops

    # --- Underlay

    def send(self, peer: PeerId, datagram: bytes) -> None:
        """Send a handshake by every way the path has, or may have."""
        self._handshakes.send(peer, datagram)

    def begin(self, peer: PeerId, initiation: bytes) -> None:
        """Ask for the peer's path, and send the message that needs it."""
        self._handshakes.begin(peer, initiation)

    def send_to(self, dst: Source, datagram: bytes) -> None:
        """Send back to where something came from."""
        self._sender.send_to(dst, datagram)

    def relay_out(self, peer: PeerId, datagrams: Sequence[bytes]) -> None:
        """Send through the peer's relay."""
        if (relay := self._hub.relay(peer)) is not None:
            self._derp.send(relay.region, relay.key, datagrams)

    def flush(self) -> None:
        """Write to relays what :meth:`relay_out` left."""
        self._derp.flush()

    def handle_disco(self, src: AddrPort | ViaAddr, data: bytes) -> None:
        """Disco by UDP."""
        self._hub.handle_disco_untrusted(data, src, self._now())
        self._pump()

    def handle_stun(self, src: AddrPort, data: bytes) -> None:
        """An answer to the running measurement, or nothing."""
        self._measuring.handle_response(data)
        self._pump()

    def note_data_sent(self, peer: PeerId) -> None:
        """The peer's path is wanted."""
        self._hub.note_data_sent(peer, self._now())
        self._pump()

    def is_direct(self, peer: PeerId) -> bool:
        """Nothing for it goes through a relay."""
        return not self._hub.route(peer).relay

    def note_source(self, peer: PeerId, src: AddrPort) -> None:
        """The peer sends from elsewhere."""
        self._hub.note_source(peer, src, self._now())
        self._pump()

    def path_failed(self, peer: PeerId, dst: AddrPort | ViaAddr, errno: int) -> None:
        """The kernel refuses the path; a dead socket is replaced."""
        now = self._now()
        self._hub.path_failed(peer, dst, errno, now)
        if errno in _DEAD_SOCKET and (
            self._rebound_at is None or now - self._rebound_at >= REBIND_INTERVAL
        ):
            self._rebound_at = now
            self.rebind()
        self._pump()

    def handle_derp(self, region: int, key: NodePublic, datagrams: list[bytes]) -> None:
        """Datagrams of one node through one relay: disco is ours, peers' others WireGuard's."""
        src, now = RelayAddr(region, key), self._now()
        self._hub.note_relay(src, now)
        # A call first: its pings open our NAT and are under way while the handshake, which came
        # with it and takes four times as long, is answered.  Where the peer came through by itself
        # there is nothing to open, and the answer is what it waits for.
        if self._overlay is not None and any(map(looks_like_disco, datagrams)):
            self._overlay.catch_up()
        steps = [self._take_disco, self._hand_on]
        for step in reversed(steps) if self._hub.is_present(key, now) else steps:
            step(src, datagrams)
        self._pump()

    def _take_disco(self, src: RelayAddr, datagrams: list[bytes]) -> None:
        for data in filter(looks_like_disco, datagrams):
            self._hub.handle_disco_untrusted(data, src, self._now())
        self._pump()

    def _hand_on(self, src: RelayAddr, datagrams: list[bytes]) -> None:
        sealed = [data for data in datagrams if not looks_like_disco(data)]
        # Anybody at the relay may send to us; what strangers do is not worth computing.
        if sealed and self._overlay is not None and self._hub.may_send(src.key, len(sealed)):
            self._overlay.handle_relayed(src, sealed)

    def _pump(self) -> None:
        self._drain.run()
