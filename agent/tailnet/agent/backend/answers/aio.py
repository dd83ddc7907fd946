"""Answers to the control server: pings of peers, prefs and health."""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from tailnet.agent.addr import AddrPort, IPAddress, ViaAddr
from tailnet.agent.backend.plan import Plan
from tailnet.agent.backend.prefs import Prefs, to_json
from tailnet.agent.backend.tunnel.aio import Tunnel
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.keys import PeerId, RelayAddr
from tailnet.agent.magicsock.aio import PingReply
from tailnet.agent.tailcfg.mapping import PingResponse
from tailnet.agent.tailcfg.node import Node as Peer

PING_WAIT = 9.0  # seconds; the asker waits ten


class Facts(Protocol):
    """What answers are made from."""

    tunnel: Tunnel

    @property
    def plan(self) -> Plan | None:
        """What is in force for packets."""

    @property
    def netmap(self) -> NetworkMap | None:
        """The network map in use."""

    def peer_at(self, ip: IPAddress) -> PeerId | None:
        """The peer whose own address ``ip`` is."""


class NodeAnswers:
    """Implements the control room's port over a node."""

    def __init__(
        self,
        node: Facts,
        prefs: Callable[[], Prefs],
        health: Callable[[], Mapping[str, str]],
    ) -> None:
        """``health``: texts by what is wrong."""
        self._node = node
        self._prefs = prefs
        self._health = health

    async def ping(  # noqa: PLR0911 - a decision list
        self, ip: IPAddress, kind: str
    ) -> PingResponse | None:
        """Ping a peer; what is impossible is said in ``err``, and silence is ``None``."""
        node = self._node
        if node.netmap is None or node.plan is None:
            return PingResponse(type=kind, ip=str(ip), err="not connected")
        if ip in node.netmap.self_node.ips():
            return PingResponse(
                type=kind, ip=str(ip), err=f"{ip} is local Tailscale IP", is_local_ip=True
            )
        peer = node.peer_at(ip)
        if peer is None:
            return PingResponse(type=kind, ip=str(ip), err="no matching peer")
        target = node.plan.peers[peer].node
        about = PingResponse(type=kind, ip=str(ip), node_ip=str(ip), node_name=target.base_name)
        match kind:
            case "disco":
                return await self._disco(peer, target, about, node.netmap)
            case "TSMP":
                return await self._tsmp(peer, ip, about, node.netmap)
            case "ICMP":
                return await self._icmp(ip, about, node.netmap)
            case _:
                return msgspec.structs.replace(about, err=f"{kind} ping is not supported")

    def prefs(self) -> bytes:
        """As the LocalAPI shows them: without keys."""
        return msgspec.json.encode(to_json(self._prefs()))

    def health(self) -> bytes:
        """As upstream: ``Warnings`` by code."""
        warnings = {
            code: {"WarnableCode": code, "Text": text} for code, text in self._health().items()
        }
        return msgspec.json.encode({"Warnings": warnings})

    async def _disco(
        self, peer: PeerId, target: Peer, about: PingResponse, netmap: NetworkMap
    ) -> PingResponse | None:
        if target.disco_key.is_zero:
            return msgspec.structs.replace(about, err="that peer does not speak disco")
        reply = await self._node.tunnel.pings.by_disco(peer, PING_WAIT, 0)
        return None if reply is None else _by(about, reply, netmap)

    async def _icmp(
        self, ip: IPAddress, about: PingResponse, netmap: NetworkMap
    ) -> PingResponse | None:
        own = [a for a in netmap.self_node.ips() if a.version == ip.version]
        if not own:
            return msgspec.structs.replace(about, err=f"no IPv{ip.version} address here")
        try:
            latency = await self._node.tunnel.pings.by_icmp(own[0], ip, PING_WAIT)
        except OSError as error:
            return msgspec.structs.replace(about, err=f"ICMP ping: {error.strerror or error}")
        if latency is None:
            return None
        return msgspec.structs.replace(about, latency_seconds=latency)

    async def _tsmp(
        self, peer: PeerId, ip: IPAddress, about: PingResponse, netmap: NetworkMap
    ) -> PingResponse | None:
        own = [a for a in netmap.self_node.ips() if a.version == ip.version]
        if not own:
            return msgspec.structs.replace(about, err=f"no IPv{ip.version} address here")
        latency = await self._node.tunnel.pings.by_tsmp(peer, own[0], ip, PING_WAIT)
        if latency is None:
            return None
        return msgspec.structs.replace(about, latency_seconds=latency)


def _by(about: PingResponse, reply: PingReply, netmap: NetworkMap) -> PingResponse:
    if not isinstance(reply.via, RelayAddr):
        return msgspec.structs.replace(
            about,
            latency_seconds=reply.latency,
            endpoint=str(reply.via) if isinstance(reply.via, AddrPort) else "",
            peer_relay=str(reply.via) if isinstance(reply.via, ViaAddr) else "",
        )
    region = netmap.derp_map.region(reply.via.region)
    return msgspec.structs.replace(
        about,
        latency_seconds=reply.latency,
        derp_region_id=reply.via.region,
        derp_region_code=region.region_code if region else "",
    )
