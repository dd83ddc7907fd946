"""``status``: this node and its peers, as they stand."""

import msgspec
from msgspec import UNSET, UnsetType

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.peerapi import peer_api
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.keys import PeerId
from tailnet.agent.localapi.schema.basics import ZERO_TIME
from tailnet.agent.localapi.schema.status import (
    DatapathStatus,
    ExitNodeStatus,
    PeerStatus,
    Status,
    TailnetStatus,
)
from tailnet.agent.localapi.view.shapes import expiry, region_code, suffix, users
from tailnet.agent.slices import SLICE, Steps, sliced
from tailnet.agent.tailcfg import node as tailcfg
from tailnet.agent.tasks import in_slices

ACTIVE_FOR = 120.0  # seconds since the last traffic; ipnlocal peerStatus


class StatusView:
    """A node's status in upstream's shape."""

    def __init__(self, node: Node, *, version: str, userspace: bool) -> None:
        self._node = node
        self._version = version
        self._userspace = userspace

    async def read(self, peers: bool) -> Status:
        """``GET status``; without ``peers`` much cheaper in large networks."""
        netmap = self._node.netmap
        crowd = await in_slices(self._peers(netmap)) if peers else None
        return msgspec.structs.replace(self._status(netmap), peer=crowd)

    def _status(self, netmap: NetworkMap | None) -> Status:
        node = self._node
        me = netmap.self_node if netmap else None
        about = node.tunnel.about
        return Status(
            version=self._version,
            tun=not self._userspace,
            backend_state=node.state.label,
            have_node_key=True if node.account.registered else UNSET,
            auth_url=node.account.auth_url,
            tailscale_ips=tuple(str(ip) for ip in me.ips()) if me else None,
            self_=self._self_status(netmap),
            exit_node_status=self._exit_node(netmap),
            health=tuple(warning.text for warning in node.warnings),
            magic_dns_suffix=suffix(me.name) if me else "",
            current_tailnet=TailnetStatus(
                name=netmap.domain,
                magic_dns_suffix=suffix(netmap.self_node.name),
                magic_dns_enabled=netmap.dns.proxied,
            )
            if netmap
            else None,
            user=users(netmap) if netmap else None,
            datapath=DatapathStatus(
                name=about.name,
                version=about.version,
                aead=about.aead,
                threads=node.tunnel.datapath_threads,
            ),
        )

    def _exit_node(self, netmap: NetworkMap | None) -> ExitNodeStatus | UnsetType:
        """The exit node in use; left out if there is none."""
        used = None if self._node.plan is None else self._node.plan.exit_node
        peer = None if netmap is None or used is None else netmap.peers.get(used)
        if peer is None:
            return UNSET
        return ExitNodeStatus(
            id=peer.stable_id,
            online=bool(peer.online),
            tailscale_ips=tuple(map(str, peer.addresses or ())),
        )

    def _self_status(self, netmap: NetworkMap | None) -> PeerStatus:
        node = self._node
        if netmap is None:
            return PeerStatus(public_key=node.public_key, host_name=node.host_name, os="linux")
        me = netmap.self_node
        region = node.tunnel.net_info.preferred_derp if node.tunnel.net_info else 0
        return msgspec.structs.replace(
            self._described(me),
            public_key=node.public_key,
            host_name=node.account.prefs.hostname or node.host_name,
            os="linux",
            addrs=tuple(str(addr) for addr, _ in node.tunnel.endpoints),
            relay=region_code(netmap, region),
            online=bool(node.tunnel.live_relays),
            key_expiry=expiry(me),
        )

    def _peers(self, netmap: NetworkMap | None) -> Steps[dict[str, PeerStatus]]:
        """One map's peers, in slices; how each stands is of the moment of its slice."""
        crowd: dict[str, PeerStatus] = {}
        if netmap is None:
            return crowd
        plan = self._node.plan
        live = {e.node.id: p for p, e in plan.peers.items()} if plan else {}
        for part in sliced(netmap.in_order()):
            for peer in part:
                crowd[str(peer.key)] = self._peer_status(peer, live.get(peer.id), netmap)
            if len(part) == SLICE:
                yield
        return crowd

    def _peer_status(
        self, peer: tailcfg.Node, handle: PeerId | None, netmap: NetworkMap
    ) -> PeerStatus:
        about = msgspec.structs.replace(
            self._described(peer), relay=region_code(netmap, peer.home_region)
        )
        if handle is None:
            return about
        node = self._node
        activity = node.tunnel.activity(handle)
        path = node.tunnel.magicsock.status(handle)
        last = max(activity.last_data_sent, activity.last_data_received)
        return msgspec.structs.replace(
            about,
            cur_addr=str(path.cur) if path and isinstance(path.cur, AddrPort) else "",
            peer_relay=str(path.cur) if path and isinstance(path.cur, ViaAddr) else "",
            rx_bytes=activity.rx_bytes,
            tx_bytes=activity.tx_bytes,
            last_write=node.wall_of(activity.last_sent) or ZERO_TIME,
            last_handshake=node.wall_of(node.tunnel.session(handle).last_handshake) or ZERO_TIME,
            active=bool(last) and node.age_of(last) < ACTIVE_FOR,
            in_magic_sock=True,
            in_engine=bool(activity.last_sent or activity.last_received),
        )

    def _described(self, node: tailcfg.Node) -> PeerStatus:
        info = node.hostinfo or tailcfg.Hostinfo()
        allowed = node.allowed_prefixes()
        return PeerStatus(
            id=node.stable_id,
            node_id=str(node.id),
            public_key=str(node.key),
            host_name=info.hostname or node.base_name,
            dns_name=node.name,
            os=info.os,
            user_id=node.user,
            tailscale_ips=tuple(str(ip) for ip in node.ips()),
            allowed_ips=tuple(str(p) for p in allowed),
            tags=node.tags or UNSET,
            primary_routes=node.primary_routes or UNSET,
            created=node.created or ZERO_TIME,
            last_seen=node.last_seen or ZERO_TIME,
            online=bool(node.online),
            exit_node=self._node.plan is not None and node.id == self._node.plan.exit_node,
            exit_node_option=node.offers_exit,
            capabilities=node.capabilities or UNSET,
            cap_map=node.cap_map or UNSET,
            in_network_map=True,
            expired=True if node.expired else UNSET,
            key_expiry=expiry(node),
            peer_api_url=self._peer_api(node),
        )

    def _peer_api(self, node: tailcfg.Node) -> tuple[str, ...] | None:
        """Where the node's PeerAPI is, as far as we could reach it."""
        netmap = self._node.netmap
        if netmap is None:
            return None
        if node.key == netmap.self_node.key:
            found = self._node.hosting.peer_api.listening
        else:
            at = peer_api(node, netmap.self_node)
            found = (at,) if at is not None else ()
        return tuple(f"http://{at}" for at in found) or None
