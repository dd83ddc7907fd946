"""``Pinger``: asks a peer in one of four ways, and says what became of it.

::

    disco    magicsock's own datagrams, by every path known
    TSMP     through WireGuard, to the peer's daemon
    ICMP     through WireGuard, to the peer's kernel, by ours
    peerapi  HTTP through WireGuard, to the peer's daemon

Source: tailscale ipn/ipnlocal/local.go, Ping and pingPeerAPI; wgengine/userspace.go, Ping.
"""

from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.peerapi import peer_api
from tailnet.agent.backend.plan import Plan
from tailnet.agent.backend.tunnel.aio import Tunnel
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.keys import PeerId, RelayAddr
from tailnet.agent.tailcfg.mapping import PingResponse
from tailnet.agent.tailcfg.node import Node as Peer


class Facts(Protocol):
    """What pings are made from."""

    tunnel: Tunnel

    @property
    def plan(self) -> Plan | None:
        """What is in force for packets."""

    @property
    def netmap(self) -> NetworkMap | None:
        """The network map in use."""

    def peer_at(self, ip: IPAddress) -> PeerId | None:
        """The peer whose own address ``ip`` is."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """One ping to a peer that is there.

    Attributes:
        peer, target: whom.
        src: our address of the family of ``dst``; ``None``: we have none.
        about: what is known before it answers.
        wait: seconds.
        size: bytes of the IP packet wanted; 0 is the smallest.
    """

    peer: PeerId
    target: Peer
    netmap: NetworkMap
    src: IPAddress | None
    dst: IPAddress
    about: PingResponse
    wait: float
    size: int

    def failed(self, why: str) -> PingResponse:
        """It cannot be done."""
        return replace(self.about, err=why)

    def took(self, latency: float | None) -> PingResponse | None:
        """It answered, or not."""
        return None if latency is None else replace(self.about, latency_seconds=latency)


class Pinger:
    """Pings for one node."""

    def __init__(self, node: Facts) -> None:
        self._node = node

    async def ping(
        self, ip: IPAddress, kind: str, *, wait: float, size: int = 0
    ) -> PingResponse | None:
        """One ping; what is impossible is said in ``err``, and silence is ``None``.

        Args:
            ip: of a peer.
            kind: ``disco``, ``TSMP``, ``ICMP`` or ``peerapi``.
            wait: seconds.
            size: bytes of the IP packet wanted; only disco has sizes.
        """
        netmap, plan = self._node.netmap, self._node.plan
        about = PingResponse(type=kind, ip=str(ip), node_ip=str(ip))
        if netmap is None or plan is None:
            return replace(about, err="not connected")
        if ip in netmap.self_node.ips():
            return replace(about, err=f"{ip} is local Tailscale IP", is_local_ip=True)
        peer = self._node.peer_at(ip)
        if peer is None:
            return replace(about, err="no matching peer")
        target = plan.peers[peer].node
        about = replace(about, node_name=target.base_name)
        src = next((a for a in netmap.self_node.ips() if a.version == ip.version), None)
        return await self._by(kind, _Ask(peer, target, netmap, src, ip, about, wait, size))

    async def _by(self, kind: str, ask: _Ask) -> PingResponse | None:
        match kind:
            case "disco":
                return await self._disco(ask)
            case "TSMP":
                return await self._tsmp(ask)
            case "ICMP":
                return await self._icmp(ask)
            case "peerapi":
                return await self._peer_api(ask)
            case _:
                return ask.failed(f"{kind} ping is not supported")

    async def _disco(self, ask: _Ask) -> PingResponse | None:
        if ask.target.disco_key.is_zero:
            return ask.failed("that peer does not speak disco")
        reply = await self._node.tunnel.pings.by_disco(ask.peer, ask.wait, ask.size)
        if reply is None:
            return None
        about = replace(ask.about, latency_seconds=reply.latency)
        if isinstance(reply.via, AddrPort):
            return replace(about, endpoint=str(reply.via))
        if not isinstance(reply.via, RelayAddr):
            return replace(about, peer_relay=str(reply.via))
        region = ask.netmap.derp_map.region(reply.via.region)
        code = region.region_code if region else ""
        return replace(about, derp_region_id=reply.via.region, derp_region_code=code)

    async def _tsmp(self, ask: _Ask) -> PingResponse | None:
        if ask.src is None:
            return ask.failed(f"no IPv{ask.dst.version} address here")
        pong = await self._node.tunnel.pings.by_tsmp(ask.peer, ask.src, ask.dst, ask.wait)
        if pong is None:
            return None
        return replace(ask.about, latency_seconds=pong.latency, peer_api_port=pong.peer_api)

    async def _icmp(self, ask: _Ask) -> PingResponse | None:
        if ask.src is None:
            return ask.failed(f"no IPv{ask.dst.version} address here")
        try:
            return ask.took(await self._node.tunnel.pings.by_icmp(ask.src, ask.dst, ask.wait))
        except OSError as error:
            return ask.failed(f"ICMP ping: {error.strerror or error}")

    async def _peer_api(self, ask: _Ask) -> PingResponse | None:
        at = peer_api(ask.target, ask.netmap.self_node)
        if at is None:
            return ask.failed(f"no PeerAPI base found for peer {ask.target.id} ({ask.dst})")
        try:
            said = ask.took(await self._node.tunnel.pings.by_peer_api(at, ask.wait))
        except OSError as error:
            return ask.failed(f"PeerAPI: {error.strerror or error}")
        return None if said is None else replace(said, peer_api_url=f"http://{at}")
