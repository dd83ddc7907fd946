"""Magicsock's shell on loopback: real sockets, a plain datapath, relays within the process."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import ip_address
from itertools import count
from typing import cast
from unittest.mock import ANY

import pytest

from tailnet.agent.addr import AddrPort
from tailnet.agent.clock import now, wall
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.interface import Activity, Datapath, Path, UdpPort, Wake
from tailnet.agent.datapath.underlay import Underlay
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.derp.dial.aio import Dialer
from tailnet.agent.disco.envelope import looks_like_disco
from tailnet.agent.keys import DiscoPrivate, NodePrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.aio import PROBE_SIZES, Magicsock
from tailnet.agent.magicsock.endpoints import InterfaceAddr
from tailnet.agent.magicsock.hub import PeerInfo
from tailnet.agent.magicsock.sockets import aio as sockets
from tailnet.agent.magicsock.sockets.aio import Sockets
from tailnet.agent.portmap.interface import Portmap, PortmapSupport
from tailnet.agent.stun.messages import encode_response, looks_like_stun, parse_request_untrusted
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion
from tailnet.agent.tailcfg.node import NetInfo

LOOPBACK = InterfaceAddr("lo", ip_address("127.0.0.1"), 8, up=True)
PEER = PeerId(1)
HANDSHAKE = b"\x01\x00\x00\x00" + bytes(144)


class Lab:
    """Nodes that hear each other by UDP and through one relay; a STUN server."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.nodes: dict[NodePublic, Node] = {}
        self.stun = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.stun.bind(("127.0.0.1", 0))
        self.asked = 0
        asyncio.get_running_loop().add_reader(self.stun, self.answer)

    def answer(self) -> None:
        """Serve one STUN request."""
        data, src = self.stun.recvfrom(2048)
        self.asked += 1
        txid = parse_request_untrusted(data)
        self.stun.sendto(encode_response(txid, AddrPort.of(*src)), src)
        self.changed.set()

    def derp_map(self, answering: int = 7) -> DERPMap:
        """Regions 3 and 7; one has a STUN server."""
        regions: dict[int, DERPRegion | None] = {}
        for n in (3, 7):
            port = self.stun.getsockname()[1] if n == answering else -1
            node = DERPNode(region_id=n, ipv4="127.0.0.1", ipv6="none", stun_port=port)
            regions[n] = DERPRegion(region_id=n, nodes=(node,))
        return DERPMap(regions=regions)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds; it is looked at whenever something happened."""
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def close(self) -> None:
        """End of the lab."""
        asyncio.get_running_loop().remove_reader(self.stun)
        self.stun.close()
        for node in self.nodes.values():
            await node.sock.close()
            node.wires.stop()


class Wires:
    """The datapath's sockets and tables, without tunnel."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sockets: dict[int, socket.socket] = {}
        self.paths: dict[PeerId, Path] = {}
        self.wakes: list[PeerId] = []
        self.received: list[bytes] = []
        self.left: list[str] = []  # what left or was handed on, in order
        self.sock: Magicsock | None = None

    def set_udp(self, udp: Sequence[UdpPort]) -> None:
        """Take sockets; close older ones."""
        self.stop()
        for port in udp:
            sock = self.sockets[port.family] = socket.socket(fileno=port.fd)
            asyncio.get_running_loop().add_reader(port.fd, self.read, sock)

    def stop(self) -> None:
        """Close them."""
        for sock in self.sockets.values():
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self.sockets.clear()

    def read(self, sock: socket.socket) -> None:
        """Sort what came."""
        data, src = sock.recvfrom(65535)
        addr = AddrPort.of(src[0], src[1])
        assert self.sock is not None
        if looks_like_stun(data):
            self.sock.handle_stun(addr, data)
        elif looks_like_disco(data):
            self.sock.handle_disco(addr, data)
        else:
            self.received.append(data)
        self.lab.changed.set()

    def send_udp(self, dst: AddrPort, datagrams: Sequence[bytes]) -> int:
        """Send as they are."""
        family = socket.AF_INET if dst.ip.version == 4 else socket.AF_INET6
        try:
            for data in datagrams:
                self.sockets[family].sendto(data, (str(dst.ip), dst.port))
                self.left.append("udp")
        except OSError as error:
            return error.errno or 1
        return 0

    def set_path(self, peer: PeerId, path: Path) -> None:
        """Note it."""
        self.paths[peer] = path
        self.lab.changed.set()

    def set_wake(self, peer: PeerId, wake: Wake) -> None:
        """Note it."""
        assert wake is Wake.DATA_SENT
        self.wakes.append(peer)

    def activity(self, peer: PeerId) -> Activity:
        """Always busy."""
        return Activity(0.0, 0.0, now(), 0.0, None, None, peer, 0, 0, 0, 0)


class Relays:
    """One node's connection to the relay."""

    def __init__(self, lab: Lab, key: NodePublic, left: list[str]) -> None:
        self.lab, self.key, self.left = lab, key, left
        self.home = 0
        self.sent = 0
        self.up = True
        self.dialer = Dialer(
            mark=lambda _: None, wall=wall, ca_file=None, plain_http=True, environ={}
        )

    def set_home(self, region: int) -> None:
        """Note it."""
        self.home = region
        self.lab.changed.set()

    def heard(self, region: int) -> float | None:
        """Just now, if that is our home."""
        return now() if self.up and region == self.home else None

    def live(self) -> frozenset[int]:
        """Connected to home."""
        return frozenset({self.home}) if self.up else frozenset()

    def send(self, region: int, dst: NodePublic, datagrams: Sequence[bytes]) -> None:
        """Deliver at the next turn of the loop."""
        self.sent += len(datagrams)
        handle = self.lab.nodes[dst].sock.handle_derp
        asyncio.get_running_loop().call_soon(handle, region, self.key, list(datagrams))

    def flush(self) -> None:
        """Note it."""
        self.left.append("relay")


class Node:
    """A node without WireGuard."""

    def __init__(self, lab: Lab, n: int, *, never_direct: bool = False) -> None:
        self.lab = lab
        private = NodePrivate.from_random(bytes([n]) * 32)
        self.key = public_of(private)
        lab.nodes[self.key] = self
        self.wires = Wires(lab)
        self.relays = Relays(lab, self.key, self.wires.left)
        self.relayed: list[tuple[RelayAddr, list[bytes]]] = []
        self.waiting: Callable[[], None] = lambda: None
        self.infos: list[NetInfo] = []
        self.told: list[tuple[tuple[AddrPort, int], ...]] = []
        seed = count()
        self.sock = Magicsock(
            DiscoPrivate.from_random(bytes([n + 100]) * 32),
            cast("DerpFleet", self.relays),
            now=now,
            random_bytes=lambda size: next(seed).to_bytes(4, "big").ljust(size, bytes([n])),
            mark=lambda _: None,
            on_endpoints=self.told.append,
            on_netinfo=self.infos.append,
            never_direct=never_direct,
        )
        self.wires.sock = self.sock
        self.sock.set_node_key(private)
        self.wires.set_udp(self.sock.bind(0))
        self.sock.attach(cast("Datapath", self.wires), self)
        self.sock.start()

    def catch_up(self) -> None:
        """What came by UDP."""
        self.waiting()

    def handle_relayed(self, src: RelayAddr, datagrams: Sequence[bytes]) -> None:
        """WireGuard by relay."""
        self.wires.left.append("handed on")
        self.relayed.append((src, list(datagrams)))
        self.lab.changed.set()

    def info(self) -> PeerInfo:
        """As control would say."""
        endpoints = tuple(addr for addr, _ in self.sock.endpoints)
        return PeerInfo(self.key, self.sock.disco_key, endpoints, self.sock.home)


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """An empty lab; this machine has but a loopback interface."""
    monkeypatch.setattr(sockets, "interface_addresses", lambda: [LOOPBACK])
    it = Lab()
    yield it
    await it.close()


async def pair(lab: Lab, *, never_direct: bool = False) -> tuple[Node, Node]:
    """Two nodes that know each other as peer 1."""
    a, b = Node(lab, 1), Node(lab, 2, never_direct=never_direct)
    for node in (a, b):
        node.sock.set_derp_map(lab.derp_map())
    await lab.until(lambda: a.relays.home == b.relays.home == 7)
    underlay: Underlay = a.sock  # the type checker's test that it is one
    assert underlay is a.sock
    a.sock.set_peers({PEER: b.info()})
    b.sock.set_peers({PEER: a.info()})
    return a, b


async def test_measurement_finds_home_and_endpoints(lab: Lab) -> None:
    """The answering region becomes home, and control is told once."""
    node = Node(lab, 1)
    node.sock.set_derp_map(lab.derp_map())
    await lab.until(lambda: node.relays.home)
    await asyncio.sleep(0)
    assert node.sock.home == 7
    assert node.told == [((AddrPort.of("127.0.0.1", node.sock.local_port), 2),)]
    [info] = node.infos
    assert (info.preferred_derp, info.working_udp, info.working_ipv6) == (7, True, False)
    assert list(info.derp_latency or {}) == ["7-v4"]
    asked = lab.asked  # more than once on a machine that is slow to hear the first answer
    node.sock.set_derp_map(lab.derp_map())
    await asyncio.sleep(0)
    assert lab.asked == asked


async def test_a_port_mapping_is_told_to_control_and_measured_with(lab: Lab) -> None:
    """As soon as there is one; the same one again is no news."""
    node = Node(lab, 1)
    node.sock.set_derp_map(lab.derp_map())
    await lab.until(lambda: node.relays.home)
    mapped = AddrPort.parse("5.5.5.5:30000")
    node.sock.set_portmap(Portmap(mapped, PortmapSupport(pmp=True)))
    async with asyncio.timeout(5):
        while len(node.told) < 2:  # noqa: ASYNC110 - the lab does not hear of it
            await asyncio.sleep(0)
    assert node.told[-1][0] == (mapped, 3)
    assert (node.infos[-1].pmp, node.infos[-1].have_port_map) == (True, True)
    asked = lab.asked  # some questions went twice if the machine was slow
    node.sock.set_portmap(Portmap(mapped, PortmapSupport(pmp=True)))
    await asyncio.sleep(0)
    assert lab.asked == asked >= 2


async def test_no_home_is_told_before_the_relays_are_known(lab: Lab) -> None:
    """A daemon that starts anew would make control forget where it was, and peers lose it."""
    node = Node(lab, 1)
    node.sock.set_derp_map(DERPMap())
    async with asyncio.timeout(5):
        while not node.told:  # noqa: ASYNC110 - the lab does not hear of it
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    node.sock.set_derp_map(lab.derp_map())
    await lab.until(lambda: node.relays.home)
    await asyncio.sleep(0)
    assert [info.preferred_derp for info in node.infos] == [7]


async def test_handshake_goes_by_relay_then_direct(lab: Lab) -> None:
    """The first needs no discovery, which it starts."""
    a, b = await pair(lab)
    assert a.wires.paths[PEER] == Path(None, relay=True)
    assert a.wires.wakes == [PEER]
    a.sock.send(PEER, HANDSHAKE)
    a.sock.note_data_sent(PEER)
    await lab.until(lambda: b.relayed)
    assert b.relayed == [(RelayAddr(7, a.key), [HANDSHAKE])]
    direct = Path(AddrPort.of("127.0.0.1", b.sock.local_port), relay=False)
    await lab.until(lambda: a.wires.paths[PEER] == direct)
    relayed = a.relays.sent
    a.sock.send(PEER, HANDSHAKE)
    await lab.until(lambda: b.wires.received)
    assert b.wires.received == [HANDSHAKE]
    assert a.relays.sent == relayed
    status = a.sock.status(PEER)
    assert status is not None
    assert status.cur == direct.udp


async def test_a_call_is_followed_before_the_handshake_that_came_with_it(lab: Lab) -> None:
    """Its pings open the NAT while the handshake, which takes longest, is answered."""
    a, b = await pair(lab)
    a.wires.left.clear()
    a.sock.send(PEER, HANDSHAKE)
    assert a.wires.left == ["relay"]
    calls: list[bytes] = []

    def call(_region: int, _dst: NodePublic, datagrams: Sequence[bytes]) -> None:
        calls.extend(datagrams)

    b.relays.send = call  # type: ignore[method-assign,assignment]
    b.sock.note_data_sent(PEER)
    a.wires.left.clear()
    a.sock.handle_derp(7, b.key, [*calls, HANDSHAKE])
    assert calls
    assert a.wires.left[0] == "udp"
    assert a.wires.left[-1] == "handed on"


async def test_a_handshake_is_answered_before_a_call_of_a_peer_that_came_through(lab: Lab) -> None:
    """What waits of it is taken first, and there is nothing to open."""
    a, b = await pair(lab)
    calls: list[bytes] = []

    def call(_region: int, _dst: NodePublic, datagrams: Sequence[bytes]) -> None:
        calls.extend(datagrams)

    b.relays.send = call  # type: ignore[method-assign,assignment]
    b.sock.note_data_sent(PEER)
    src = AddrPort.of("127.0.0.1", b.sock.local_port)
    a.waiting = lambda: a.sock.note_source(PEER, src)
    a.wires.left.clear()
    a.sock.handle_derp(7, b.key, [*calls, HANDSHAKE])
    assert calls
    assert a.wires.left[0] == "handed on"


async def test_what_strangers_send_by_the_relay_is_not_handed_on(lab: Lab) -> None:
    """The relay says who sent it, so nothing has to be computed to know that it is of no use."""
    a, b = await pair(lab)
    stranger = public_of(NodePrivate.from_random(b"s" * 32))
    a.sock.handle_derp(7, stranger, [HANDSHAKE, b"\x04\0\0\0" + bytes(28)])
    assert a.relayed == []
    assert a.sock.drops()["unknown sender"] == 2
    a.sock.handle_derp(7, b.key, [HANDSHAKE])
    assert a.relayed == [(RelayAddr(7, b.key), [HANDSHAKE])]
    a.sock.set_peers({})
    a.sock.handle_derp(7, b.key, [HANDSHAKE])
    assert len(a.relayed) == 1


async def test_relay_only_node_is_reached_by_relay(lab: Lab) -> None:
    """It neither pings nor answers by UDP; a user's ping goes through the relay."""
    a, b = await pair(lab, never_direct=True)
    a.sock.send(PEER, HANDSHAKE)
    reply = await a.sock.ping(PEER, 2.0)
    assert reply is not None
    assert reply.via == RelayAddr(7, b.key)
    assert a.wires.paths[PEER] == b.wires.paths[PEER] == Path(None, relay=True)
    assert b.sock.drops()["unwanted"] > 0


async def test_user_ping_prefers_the_direct_path(lab: Lab) -> None:
    """Once trusted, nothing else is asked."""
    a, b = await pair(lab)
    a.sock.note_data_sent(PEER)
    await lab.until(lambda: not a.wires.paths[PEER].relay)
    reply = await a.sock.ping(PEER, 2.0, 1200)
    assert reply is not None
    assert reply.via == AddrPort.of("127.0.0.1", b.sock.local_port)


async def test_ping_of_a_stranger_ends_in_time(lab: Lab) -> None:
    """No peer, no answer, no error."""
    node = Node(lab, 1)
    assert await node.sock.ping(PeerId(9), 0.01) is None


async def test_rebind_keeps_the_port(lab: Lab) -> None:
    """Peers know us by it; the direct path is found again."""
    a, b = await pair(lab)
    a.sock.note_data_sent(PEER)
    await lab.until(lambda: not a.wires.paths[PEER].relay)
    port = a.sock.local_port
    a.sock.rebind()
    assert a.sock.local_port == port
    assert a.wires.paths[PEER] == Path(None, relay=True)
    await lab.until(lambda: not a.wires.paths[PEER].relay)
    assert b.sock.home == 7


async def test_sizes_of_paths_are_looked_for_as_long_as_that_is_wanted(lab: Lab) -> None:
    """Known peers are asked anew; what was found is forgotten when it ends."""
    a, _ = await pair(lab)
    a.sock.note_data_sent(PEER)
    await lab.until(lambda: not a.wires.paths[PEER].relay)

    def mtu() -> int:
        report = a.sock.report(PEER)
        assert report is not None
        return max(candidate.wire_mtu for candidate in report.candidates)

    assert mtu() == 0
    for enabled in (True, False):
        a.sock.set_probe_mtu(enabled=enabled)
        a.sock.note_data_sent(PEER)
        await lab.until(lambda: not a.wires.paths[PEER].relay)
        if enabled:  # the loopback device takes everything
            await lab.until(lambda: mtu() == PROBE_SIZES[-1])
    assert mtu() == 0


async def test_who_wishes_it_has_the_network_measured_now(lab: Lab) -> None:
    """Although nothing happened, and nobody is spoken to."""
    a, _ = await pair(lab)
    asked = lab.asked
    a.sock.restun()
    await lab.until(lambda: lab.asked > asked)


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOTCONN, errno.EPERM])
async def test_a_socket_that_refuses_to_send_is_replaced_but_not_all_the_time(
    lab: Lab, code: int
) -> None:
    """Once in five seconds; a host that is out of reach is no reason."""
    a, _ = await pair(lab)
    born: list[int] = []
    set_udp = a.wires.set_udp

    def count_them(udp: Sequence[UdpPort]) -> None:
        born.append(len(udp))
        set_udp(udp)

    a.wires.set_udp = count_them  # type: ignore[method-assign]
    there = AddrPort.parse("192.0.2.1:1")
    a.sock.path_failed(PEER, there, errno.EHOSTUNREACH)
    assert not born
    for _ in range(3):
        a.sock.path_failed(PEER, there, code)
    assert len(born) == 1


async def test_dead_home_is_left_for_a_region_that_answers(lab: Lab) -> None:
    """A node at a dead relay cannot be found; other relays that came and went do not matter."""
    node = Node(lab, 1)
    node.sock.set_derp_map(lab.derp_map(7))
    await lab.until(lambda: node.relays.home == 7)
    node.sock.handle_live(frozenset({3, 7}))
    node.sock.set_derp_map(lab.derp_map(3))
    await lab.until(lambda: (node.sock.net_info or NetInfo()).derp_latency == {"3-v4": ANY})
    assert node.relays.home == 7
    node.sock.handle_live(frozenset({7}))
    assert lab.asked == 2
    node.relays.up = False
    node.sock.handle_live(frozenset())
    await lab.until(lambda: node.relays.home == 3)


async def test_taken_port_is_replaced(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """With a line in the log, since firewalls and port forwards may need to know."""
    first = Node(lab, 1)
    second = Sockets(lambda _: None)
    for port in second.bind(first.sock.local_port):
        socket.socket(fileno=port.fd).close()
    assert second.ports.v4 not in {0, first.sock.local_port}
    assert f"UDP port {first.sock.local_port} is taken" in caplog.text


def test_interfaces_are_listed() -> None:
    """Loopback exists everywhere."""
    found = sockets.interface_addresses()
    assert any(a.ip == ip_address("127.0.0.1") and a.prefix == 8 for a in found)
