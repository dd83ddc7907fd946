"""A ``Node`` as the LocalAPI shows it: the backend port of ``routes``, over the real thing."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec
from msgspec import UNSET

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.events import (
    BrowseToURL,
    HealthChanged,
    LoginFinished,
    LoginRefused,
    NetworkMapChanged,
    NodeEvent,
    PrefsChanged,
    ProfileChanged,
    StateChanged,
)
from tailnet.agent.backend.exitnode import offers_exit
from tailnet.agent.backend.health import HealthWarning
from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.backend.planview import describe
from tailnet.agent.backend.prefs import Prefs, to_json
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.errors import UserError
from tailnet.agent.keys import PeerId
from tailnet.agent.localapi import schema
from tailnet.agent.localapi.bus import Bus, Subscription
from tailnet.agent.localapi.reportview import describe_report
from tailnet.agent.localapi.routes import Stream
from tailnet.agent.localapi.schema import (
    DatapathStatus,
    Engine,
    NetcheckReport,
    Notify,
    PathDetails,
    PeerStatus,
    PingResult,
    Status,
    TailnetStatus,
)
from tailnet.agent.localapi.view import paths
from tailnet.agent.magicsock.aio import PingReply
from tailnet.agent.magicsock.sockets.aio import has_ipv6
from tailnet.agent.netstack.interface import Connection, DialError
from tailnet.agent.slices import SLICE, Steps, sliced
from tailnet.agent.tailcfg import node as tailcfg
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tasks import in_slices

ACTIVE_FOR = 120.0  # seconds since the last traffic; ipnlocal peerStatus
PING_WAIT = 10.0  # seconds; the client has a shorter patience of its own


class NodeView:
    """Status, prefs and pings of one node, and the bus that watches it."""

    def __init__(
        self,
        node: Node,
        *,
        version: str,
        dial: Callable[[str, int], Awaitable[Connection]],
        userspace_drops: Callable[[], dict[str, int]] | None = None,
        service_drops: Callable[[], dict[str, int]] = dict,
    ) -> None:
        """``userspace_drops``: of the stack in the kernel's place; ``dial`` works in any case.

        ``service_drops``: of what we serve ourselves.
        """
        self._node = node
        self._dial = dial
        self._userspace_drops = userspace_drops
        self._service_drops = service_drops
        self._version = version
        self._bus = Bus()
        node.watch(self._publish)

    # --- reading

    async def status(self, peers: bool) -> Status:
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
            tun=self._userspace_drops is None,
            backend_state=node.state.label,
            have_node_key=True if node.account.registered else UNSET,
            auth_url=node.account.auth_url,
            tailscale_ips=tuple(str(ip) for ip in me.ips()) if me else None,
            self_=self._self_status(netmap),
            health=tuple(warning.text for warning in node.warnings),
            magic_dns_suffix=_suffix(me.name) if me else "",
            current_tailnet=TailnetStatus(
                name=netmap.domain,
                magic_dns_suffix=_suffix(netmap.self_node.name),
                magic_dns_enabled=netmap.dns.proxied,
            )
            if netmap
            else None,
            user=_users(netmap) if netmap else None,
            datapath=DatapathStatus(
                name=about.name,
                version=about.version,
                aead=about.aead,
                threads=node.tunnel.datapath_threads,
            ),
        )

    def prefs(self) -> Prefs:
        """The user's wishes; no keys are in them."""
        return self._node.account.prefs

    def operator(self) -> str:
        """Name of the local user who may write besides root; empty if none."""
        return self._node.account.prefs.operator_user

    async def ping(self, ip: IPAddress, kind: str, size: int) -> PingResult:
        """One disco ping; anything that goes wrong is in ``err``."""
        node, netmap = self._node, self._node.netmap
        about = PingResult(ip=str(ip), node_ip=str(ip))
        if netmap is None or node.plan is None:
            return _failed(about, f"not connected; state: {node.state.label}")
        if ip in netmap.self_node.ips():
            about = msgspec.structs.replace(about, is_local_ip=True)
            return _failed(about, f"{ip} is local Tailscale IP")
        if kind != "disco":
            return _failed(about, f"{kind} ping is not supported yet")
        peer = node.peer_at(ip)
        if peer is None:
            return _failed(about, "no matching peer")
        target = node.plan.peers[peer].node
        about = msgspec.structs.replace(about, node_name=target.base_name)
        if target.disco_key.is_zero:
            return _failed(about, "that peer does not speak disco")
        reply = await node.tunnel.ping(peer, PING_WAIT, size)
        return _answered(about, reply, netmap)

    def paths(self) -> tuple[PathDetails, ...]:
        """``GET path`` without a peer: all of them, in short."""
        plan, sock = self._node.plan, self._node.tunnel.magicsock
        if plan is None:
            return ()
        known = ((peer.node, sock.report(p)) for p, peer in plan.peers.items())
        return tuple(
            paths.summary(node, about, plan.derp_map) for node, about in known if about is not None
        )

    def path(self, ip: IPAddress) -> PathDetails:
        """``GET path``.

        Raises:
            UserError: there is no such peer.
        """
        node = self._node
        peer = node.peer_at(ip) if node.plan is not None else None
        about = None if peer is None else node.tunnel.magicsock.report(peer)
        if peer is None or about is None or node.plan is None:
            msg = f"no peer has the address {ip}"
            raise UserError(msg)
        plan = node.plan
        return paths.details(plan.peers[peer].node, about, plan.derp_map, node.age_of)

    def derp_map(self) -> DERPMap:
        """``GET derpmap``."""
        netmap = self._node.netmap
        return DERPMap() if netmap is None else netmap.derp_map

    async def netcheck(self, address: str, port: int) -> NetcheckReport:
        """``POST netcheck``.

        Raises:
            UserError: there is no map of relays, or no sending from there.
        """
        derp_map = self.derp_map()
        if not any((derp_map.regions or {}).values()):
            msg = "no relays are known: connect this machine first, with: tnet up"
            raise UserError(msg)
        report, nearest = await self._node.tunnel.netcheck(derp_map, address, port)
        return describe_report(
            report,
            nearest,
            has_ipv6=has_ipv6(),
            support=self._node.tunnel.magicsock.portmap.support,
            wall=clock.wall(),
        )

    async def dial(self, host: str, port: int) -> Connection:
        """``POST dial``.

        Raises:
            UserError: no name, no way, no answer.
        """
        try:
            return await self._dial(host, port)
        except DialError as error:
            raise UserError(str(error)) from None

    # --- writing

    async def edit_prefs(self, masked: Mapping[str, object]) -> Prefs:
        """``PATCH prefs``."""
        return self._node.account.edit(masked)

    async def start(self, update_prefs: Mapping[str, object] | None, auth_key: str) -> None:
        """``POST start``: ``update_prefs`` names what changes, unmasked."""
        whole = update_prefs or {}
        await self._node.account.login(
            {**whole, **{f"{name}Set": True for name in whole}}, auth_key
        )

    async def login_interactive(self) -> None:
        """``POST login-interactive``: the URL comes on the bus."""
        self._node.account.login_interactive()

    async def logout(self) -> None:
        """``POST logout``."""
        await self._node.account.logout()

    async def set_dns(self, name: str, value: str) -> None:
        """Let control publish a TXT record of this node's name."""
        await self._node.account.set_dns(name, value)

    def profiles(self) -> tuple[LoginProfile, ...]:
        """``GET profiles/``."""
        return self._node.account.profiles

    def profile(self) -> LoginProfile:
        """``GET profiles/current``."""
        return self._node.account.profile

    async def new_profile(self) -> None:
        """``PUT profiles/``."""
        await self._node.account.new_profile()

    async def switch_profile(self, profile_id: str) -> None:
        """``POST profiles/ID``."""
        await self._node.switch_profile(profile_id)

    async def delete_profile(self, profile_id: str) -> None:
        """``DELETE profiles/ID``."""
        await self._node.account.delete(profile_id)

    async def reload_config(self) -> bool:
        """``POST reload-config``."""
        return await self._node.reload_config()

    async def debug(self, action: str) -> object:
        """``POST debug``."""
        if action == "plan":
            return describe(self._node.plan)
        if action == "drops":
            drops = self._node.tunnel.drops()
            if self._userspace_drops is not None:
                counted = self._userspace_drops()
                drops["userspace"] = {reason: n for reason, n in counted.items() if n}
            drops["services"] = {reason: n for reason, n in self._service_drops().items() if n}
            return drops
        self._node.forget_kept_map()
        return None

    def capture(self) -> Stream:
        """``POST debug-capture``."""
        return self._node.tunnel.capture(f"tailnetd {self._version}")

    # --- watching

    async def watch(self, mask: int, session_id: str) -> Subscription:
        """A watch that begins with what the mask's ``Initial…`` bits ask for."""
        node = self._node
        status = await self.status(peers=True) if mask & schema.INITIAL_STATUS else None
        first = Notify(version=self._version, session_id=session_id)
        if mask & schema.INITIAL_STATE:
            first = msgspec.structs.replace(
                first, state=int(node.state), browse_to_url=node.account.auth_url or None
            )
        if mask & schema.INITIAL_PREFS:
            first = msgspec.structs.replace(first, prefs=to_json(node.account.prefs))
        if status is not None:
            first = msgspec.structs.replace(first, initial_status=status)
        if mask & schema.INITIAL_HEALTH:
            first = msgspec.structs.replace(first, health=_health(node.warnings))
        return self._bus.watch(mask, [first])

    def engine(self) -> Engine:
        """Traffic so far, for watchers that poll it."""
        node = self._node
        activities = [node.tunnel.activity(p) for p in (node.plan.peers if node.plan else {})]
        return Engine(
            r_bytes=sum(a.rx_bytes for a in activities),
            w_bytes=sum(a.tx_bytes for a in activities),
            num_live=sum(1 for a in activities if a.last_received),
            live_derps=len(node.tunnel.live_relays),
        )

    def close(self) -> None:
        """End every watch."""
        self._bus.close()

    def _publish(self, event: NodeEvent) -> None:
        notify = Notify(version=self._version)
        match event:
            case StateChanged(state):
                notify = msgspec.structs.replace(notify, state=int(state))
            case PrefsChanged(prefs):
                notify = msgspec.structs.replace(notify, prefs=to_json(prefs))
            case LoginFinished():
                notify = msgspec.structs.replace(notify, login_finished={})
            case BrowseToURL(url):
                notify = msgspec.structs.replace(notify, browse_to_url=url)
            case LoginRefused(message):
                notify = msgspec.structs.replace(notify, err_message=message)
            case HealthChanged(warnings):
                notify = msgspec.structs.replace(notify, health=_health(warnings))
            case ProfileChanged():
                # As at a start: no state yet; the prefs come next.
                notify = msgspec.structs.replace(notify, state=int(self._node.state))
            case NetworkMapChanged():
                return
        self._bus.publish(notify)

    # --- one node

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
            relay=_region_code(netmap, region),
            online=bool(node.tunnel.live_relays),
            key_expiry=_expiry(me),
        )

    def _peers(self, netmap: NetworkMap | None) -> Steps[dict[str, PeerStatus]]:
        """One map's peers, in slices; how each stands is of the moment of its slice."""
        crowd: dict[str, PeerStatus] = {}
        if netmap is None:
            return crowd
        plan = self._node.plan
        live = {e.node.id: p for p, e in plan.peers.items()} if plan else {}
        for part in sliced(tuple(netmap.peers.values())):
            for peer in part:
                crowd[str(peer.key)] = self._peer_status(peer, live.get(peer.id), netmap)
            if len(part) == SLICE:
                yield
        return crowd

    def _peer_status(
        self, peer: tailcfg.Node, handle: PeerId | None, netmap: NetworkMap
    ) -> PeerStatus:
        about = msgspec.structs.replace(
            self._described(peer), relay=_region_code(netmap, peer.home_region)
        )
        if handle is None:
            return about
        node = self._node
        activity = node.tunnel.activity(handle)
        path = node.tunnel.magicsock.status(handle)
        last = max(activity.last_data_sent, activity.last_data_received)
        return msgspec.structs.replace(
            about,
            cur_addr=str(path.cur) if path and path.cur else "",
            rx_bytes=activity.rx_bytes,
            tx_bytes=activity.tx_bytes,
            last_write=node.wall_of(activity.last_sent) or schema.ZERO_TIME,
            last_handshake=node.wall_of(node.tunnel.session(handle).last_handshake)
            or schema.ZERO_TIME,
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
            created=node.created or schema.ZERO_TIME,
            last_seen=node.last_seen or schema.ZERO_TIME,
            online=bool(node.online),
            exit_node=self._node.plan is not None and node.id == self._node.plan.exit_node,
            exit_node_option=offers_exit(node),
            capabilities=node.capabilities or UNSET,
            cap_map=node.cap_map or UNSET,
            in_network_map=True,
            expired=True if node.expired else UNSET,
            key_expiry=_expiry(node),
        )


def _expiry(node: tailcfg.Node) -> datetime | msgspec.UnsetType:
    return node.key_expiry if node.key_expiry and node.key_expiry.year > 1 else UNSET


def _failed(about: PingResult, why: str) -> PingResult:
    return msgspec.structs.replace(about, err=why)


def _answered(about: PingResult, reply: PingReply | None, netmap: NetworkMap) -> PingResult:
    if reply is None:
        return _failed(about, "timeout waiting for a pong")
    if isinstance(reply.via, AddrPort):
        return msgspec.structs.replace(
            about, latency_seconds=reply.latency, endpoint=str(reply.via)
        )
    return msgspec.structs.replace(
        about,
        latency_seconds=reply.latency,
        derp_region_id=reply.via.region,
        derp_region_code=_region_code(netmap, reply.via.region),
    )


def _suffix(name: str) -> str:
    return name.partition(".")[2].rstrip(".")


def _region_code(netmap: NetworkMap, region_id: int) -> str:
    region = netmap.derp_map.region(region_id)
    return region.region_code if region else ""


def _users(netmap: NetworkMap) -> dict[int, schema.UserProfile]:
    return {
        int(user.id): schema.UserProfile(
            id=int(user.id),
            login_name=user.login_name,
            display_name=user.display_name,
            profile_pic_url=user.profile_pic_url,
        )
        for user in netmap.user_profiles.values()
    }


def _health(warnings: tuple[HealthWarning, ...]) -> dict[str, object]:
    """In Go's shape.

    Source: tailscale health/state.go, State and UnhealthyState.
    """
    return {
        "Warnings": {
            warning.what.code: {
                "WarnableCode": warning.what.code,
                "Severity": str(warning.what.severity),
                "Title": warning.what.title,
                "Text": warning.text,
                "BrokenSince": warning.since,
                "DependsOn": list(warning.what.depends_on),
                "ImpactsConnectivity": warning.what.connectivity,
            }
            for warning in warnings
        }
    }
