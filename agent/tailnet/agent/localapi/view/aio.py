"""A ``Node`` as the LocalAPI shows it: the backend port of ``routes``, over the real thing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial

from msgspec import UNSET
from msgspec.structs import replace

from tailnet.agent import clock
from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.backend.prefs import Prefs, toggle_exit_node, validate
from tailnet.agent.backend.routetable import route_facts, with_acceptance
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.wishes import Wish
from tailnet.agent.dns.message import query_untrusted
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.localapi.bus import Subscription
from tailnet.agent.localapi.interface import RecordsChange, Stream
from tailnet.agent.localapi.reportview import describe_report
from tailnet.agent.localapi.schema.names import DNSOSConfig, DNSQueryAnswer, DNSResolver
from tailnet.agent.localapi.schema.network import NetcheckReport, RouteEntry
from tailnet.agent.localapi.schema.paths import PathDetails, PeerRelaySessions, PingResult
from tailnet.agent.localapi.schema.status import Status
from tailnet.agent.localapi.view import paths, routes
from tailnet.agent.localapi.view.exitnode import suggested
from tailnet.agent.localapi.view.experiments.aio import ExperimentsView
from tailnet.agent.localapi.view.inspect.aio import Inspection
from tailnet.agent.localapi.view.metrics.aio import MetricsView
from tailnet.agent.localapi.view.process.aio import ProcessView
from tailnet.agent.localapi.view.shapes import relay_session
from tailnet.agent.localapi.view.status.aio import StatusView
from tailnet.agent.localapi.view.trace.aio import facts_of
from tailnet.agent.localapi.view.watching.aio import Watching
from tailnet.agent.magicsock.sockets.aio import has_ipv6
from tailnet.agent.netstack.interface import Connection, DialError
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import Node as PeerNode
from tailnet.agent.trace.facts import Facts
from tailnet.platform.interface import Bypass, PlatformError

EXIT_ROUTES = ("0.0.0.0/0", "::/0")
IN_FORCE = 5.0  # seconds that whoever sets something waits for routes and rules
PING_WAIT = 10.0  # seconds; the client has a shorter patience of its own


class NodeView:
    """Status, prefs and pings of one node, and the bus that watches it."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        node: Node,
        *,
        version: str,
        dial: Callable[[str, int], Awaitable[Connection]],
        bypass: Bypass,
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
        self._status = StatusView(node, version=version, userspace=userspace_drops is not None)
        self.process = ProcessView()
        self._watching = Watching(node, version=version, status=self.status)
        self.experiments = ExperimentsView(
            node,
            bypass,
            dial=dial,
            userspace=userspace_drops is not None,
            publish=self._watching.publish,
        )
        self._inspection = Inspection(node, version=version, drops=self._drops)
        self.metrics = MetricsView(
            node,
            version=version,
            drops=self._drops,
            watchers=self._watching.count,
        )

    # --- reading

    async def status(self, peers: bool) -> Status:
        """``GET status``; without ``peers`` much cheaper in large networks."""
        return await self._status.read(peers)

    def prefs(self) -> Prefs:
        """The user's wishes; no keys are in them."""
        return self._node.account.prefs

    def operator(self) -> str:
        """Name of the local user who may write besides root; empty if none."""
        return self._node.account.prefs.operator_user

    async def ping(self, ip: IPAddress, kind: str, size: int) -> PingResult:
        """One ping; anything that goes wrong is in ``err``."""
        said = await self._node.pinger.ping(ip, kind, wait=PING_WAIT, size=size)
        if said is None:
            return PingResult(ip=str(ip), node_ip=str(ip), err="timeout waiting for a pong")
        return PingResult(
            ip=said.ip,
            node_ip=said.node_ip,
            node_name=said.node_name,
            err=said.err,
            latency_seconds=said.latency_seconds,
            endpoint=said.endpoint,
            peer_relay=said.peer_relay,
            derp_region_id=said.derp_region_id,
            derp_region_code=said.derp_region_code,
            peer_api_port=said.peer_api_port or UNSET,
            peer_api_url=said.peer_api_url or UNSET,
            is_local_ip=said.is_local_ip or UNSET,
        )

    def paths(self) -> tuple[PathDetails, ...]:
        """``GET path`` without a peer: all of them, in short."""
        plan, sock = self._node.plan, self._node.tunnel.magicsock
        if plan is None:
            return ()
        known = ((peer.node, sock.report(p)) for p, peer in plan.in_order().items())
        return tuple(
            paths.summary(node, about, plan.derp_map, sock.portmap.external)
            for node, about in known
            if about is not None
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
        mapped = node.tunnel.magicsock.portmap.external
        return paths.details(plan.peers[peer].node, about, plan.derp_map, mapped, node.age_of)

    def trace_facts(self) -> Facts:
        """What ``GET trace`` looks at."""
        return facts_of(self._node)

    def forwarding_problem(self) -> str:
        """``GET check-ip-forwarding``; health is looked at again as well."""
        node = self._node
        node.checkup.look()
        return node.tunnel.forwarding.problem(node.account.prefs.advertise_routes or EXIT_ROUTES)

    def udp_gro_problem(self) -> str:
        """``GET check-udp-gro-forwarding``."""
        state = self._node.network.state
        return (
            self._node.tunnel.forwarding.udp_gro_problem(state.default) if state is not None else ""
        )

    def set_udp_gro(self) -> str:
        """``set-udp-gro-forwarding``."""
        state = self._node.network.state
        try:
            self._node.tunnel.forwarding.set_udp_gro(state.default if state is not None else "")
        except PlatformError as error:
            return str(error)
        return ""

    def routes(self, accept: str | None) -> tuple[RouteEntry, ...]:
        """``GET routes``.

        Raises:
            UserError: ``accept`` is wrong.
        """
        node, prefs = self._node, self._node.account.prefs
        if accept is not None:
            prefs = with_acceptance(prefs, accept)
            validate(prefs)
        if node.netmap is None:
            return ()
        exit_node = None if node.plan is None else node.plan.exit_node
        facts = route_facts(prefs, node.netmap, node.tunnel.forwarding.links(), exit_node)
        return routes.entries(facts, node.netmap.self_node.id)

    def netmap(self) -> NetworkMap | None:
        """The network as control described it last."""
        return self._node.netmap

    def suggested_exit_node(self) -> PeerNode | None:
        """What ``auto:any`` would be now."""
        return suggested(self._node.netmap, self._node.plan)

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
        diagnosis = self._node.tunnel.diagnosis
        report, nearest, support = await diagnosis.netcheck(derp_map, address, port)
        return describe_report(
            report,
            nearest,
            has_ipv6=has_ipv6(),
            support=support,
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
        """``PATCH prefs``: answered once routes and rules follow."""
        prefs = self._node.account.edit(masked)
        await self._in_force()
        return prefs

    async def use_exit_node(self, enabled: bool) -> Prefs:
        """``POST set-use-exit-node-enabled``."""
        prefs = self._node.account.revise(partial(toggle_exit_node, enabled=enabled))
        await self._in_force()
        return prefs

    async def _in_force(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(IN_FORCE):
                await self._node.follower.done()
                await self._node.tunnel.done()

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

    async def dns_osconfig(self) -> DNSOSConfig:
        """``GET dns-osconfig``.

        Raises:
            UserError: it cannot be read.
        """
        try:
            mode, base = await self._node.naming.before_us()
        except PlatformError as error:
            raise UserError(str(error)) from None
        if base is None:
            return DNSOSConfig(mode=mode, known=False)
        return DNSOSConfig(
            nameservers=tuple(map(str, base.nameservers)),
            search_domains=base.search,
            match_domains=base.match,
            mode=mode,
        )

    async def dns_query(self, name: str, qtype: int) -> DNSQueryAnswer:
        """``GET dns-query``.

        Raises:
            UserError: that is no name.
        """
        try:
            question = query_untrusted(name, qtype)
        except BadPacket:
            msg = f"{name!r} is not a domain name"
            raise UserError(msg) from None
        said = await self._node.naming.resolver.explain(question)
        return DNSQueryAnswer(
            data=said.data or b"",
            resolvers=tuple(DNSResolver(addr=resolver.addr) for resolver in said.resolvers),
            why=said.why,
            server=said.server,
        )

    async def change_dns_records(self, change: RecordsChange) -> Prefs:
        """``POST`` and ``DELETE dns-records``."""

        def changed(prefs: Prefs) -> Prefs:
            return replace(prefs, dns_records=change(prefs.dns_records or ()))

        return self._node.account.revise(changed)

    async def ask_control(self, wish: Wish) -> dict[str, object]:
        """Whatever control is asked besides the map."""
        return await self._node.account.ask(wish)

    async def expire_sooner(self, at: datetime) -> None:
        """``POST set-expiry-sooner``."""
        await self._node.account.shorten(at)

    async def disconnect_control(self) -> None:
        """``POST disconnect-control``."""
        await self._node.account.disconnect()

    async def reset_auth(self) -> None:
        """``POST reset-auth``."""
        await self._node.account.reset()

    def bugreport(self, note: str, *, diagnose: bool) -> str:
        """``POST bugreport``."""
        return self._inspection.bugreport(note, diagnose=diagnose)

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
        return await self._inspection.debug(action)

    def _drops(self) -> dict[str, dict[str, int]]:
        drops = self._node.tunnel.diagnosis.drops()
        if self._userspace_drops is not None:
            counted = self._userspace_drops()
            drops["userspace"] = {reason: n for reason, n in counted.items() if n}
        drops["sites"] = {reason: n for reason, n in self._node.tunnel.sites.drops().items() if n}
        drops["names"] = self._node.naming.resolver.drops()
        drops["services"] = {reason: n for reason, n in self._service_drops().items() if n}
        return drops

    def peer_relay_sessions(self) -> PeerRelaySessions:
        """``GET debug-peer-relay-sessions``."""
        relay = self._node.tunnel.peer_relay
        return PeerRelaySessions(
            udp_port=relay.port if relay.running else None,
            sessions=tuple(map(relay_session, relay.sessions())),
        )

    def capture(self) -> Stream:
        """``POST debug-capture``."""
        tunnel = self._node.tunnel
        return tunnel.diagnosis.capture(f"tailnetd {self._version}", tunnel.device)

    # --- watching

    async def watch(self, mask: int, session_id: str) -> Subscription:
        """``GET watch-ipn-bus``."""
        return await self._watching.watch(mask, session_id)

    def close(self) -> None:
        """End every watch."""
        self._watching.close()
