"""A ``Node`` and its process, counted."""

import asyncio
import gc
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tailnet.agent import clock
from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.prefs import parse_routes
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.datapath.interface import NO_PATH
from tailnet.agent.keys import PeerId
from tailnet.agent.localapi.view.paths import kind
from tailnet.agent.metrics.facts import NodeFacts, PeerFacts, ProcessFacts
from tailnet.agent.metrics.ours import internal_metrics, node_metrics
from tailnet.agent.metrics.text import render
from tailnet.agent.metrics.upstream import upstream_metrics
from tailnet.agent.slices import SLICE, Steps, sliced
from tailnet.agent.tailcfg import node as tailcfg
from tailnet.agent.tasks import in_slices

PAGE = os.sysconf("SC_PAGESIZE")


class MetricsView:
    """Prometheus text of one node.

    Args:
        drops: by layer and reason; only what happened.
        watchers: of the bus.
    """

    def __init__(
        self,
        node: Node,
        *,
        version: str,
        drops: Callable[[], Mapping[str, Mapping[str, int]]],
        watchers: Callable[[], int],
    ) -> None:
        self._node = node
        self._version = version
        self._drops = drops
        self._watchers = watchers
        self._started = clock.wall().timestamp()

    async def user(self) -> str:
        """For everybody."""
        facts = await self._facts()
        return render([*upstream_metrics(facts), *node_metrics(facts)])

    async def internal(self) -> str:
        """All of that, and what concerns those who debug the daemon."""
        facts = await self._facts()
        ours = [*node_metrics(facts), *internal_metrics(facts, self._process())]
        return render([*upstream_metrics(facts), *ours])

    async def _facts(self) -> NodeFacts:
        node, netmap = self._node, self._node.netmap
        tunnel, relay = node.tunnel, node.tunnel.peer_relay
        forwarded, forwarded_bytes = relay.forwarded()
        bound = [all(session.bound) for session in relay.sessions()]
        measured = tunnel.magicsock.measured
        advertised, approved = self._own_routes(netmap)
        return NodeFacts(
            version=self._version,
            datapath=tunnel.about.name,
            state=node.state.label,
            traffic=tunnel.diagnosis.traffic(),
            drops=self._drops(),
            warnings={w.what.code: w.what.severity.value for w in node.warnings},
            advertised=advertised,
            approved=approved,
            home=tunnel.net_info.preferred_derp if tunnel.net_info else 0,
            relays=len(tunnel.live_relays),
            relay_latency=measured.by_region() if measured is not None else {},
            control_up=netmap is not None and not node.account.control_problem,
            key_left=node.key_left,
            peers=await in_slices(self._peers()),
            dns=node.naming.resolver.metrics(),
            forwarded=forwarded,
            forwarded_bytes=forwarded_bytes,
            relay_sessions=(sum(bound), len(bound) - sum(bound)) if relay.running else None,
        )

    def _own_routes(self, netmap: NetworkMap | None) -> tuple[int, int]:
        """How many are offered, and how many of them the others get from us."""
        offered = parse_routes(self._node.account.prefs.advertise_routes or ())
        allowed = netmap.self_node.allowed_prefixes() if netmap is not None else ()
        return len(offered), sum(1 for route in offered if route in allowed)

    def _peers(self) -> Steps[tuple[PeerFacts, ...]]:
        plan = self._node.plan
        found: list[PeerFacts] = []
        for part in sliced(list(plan.peers.items()) if plan is not None else []):
            found += [self._peer(handle, planned.node) for handle, planned in part]
            if len(part) == SLICE:
                yield
        return tuple(found)

    def _peer(self, handle: PeerId, peer: tailcfg.Node) -> PeerFacts:
        tunnel = self._node.tunnel
        activity, session = tunnel.activity(handle), tunnel.session(handle)
        about, path = tunnel.magicsock.report(handle), tunnel.magicsock.status(handle)
        met = self._node.wall_of(session.last_handshake)
        return PeerFacts(
            name=peer.name.removesuffix(".") or peer.base_name,
            path=kind(about.path if about is not None else NO_PATH),
            latency=path.latency if path is not None else None,
            switches=path.switches if path is not None else 0,
            handshakes=session.handshakes,
            last_handshake=met.timestamp() if met is not None else 0.0,
            last_used=max(activity.last_sent, activity.last_received),
            rx_bytes=activity.rx_bytes,
            tx_bytes=activity.tx_bytes,
        )

    def _process(self) -> ProcessFacts:
        return ProcessFacts(
            cpu=time.process_time(),
            memory=resident(),
            descriptors=descriptors(),
            tasks=len(asyncio.all_tasks()),
            watchers=self._watchers(),
            started=self._started,
            collected=tuple(int(each["collections"]) for each in gc.get_stats()),
        )


def resident() -> int:
    """Memory of this process [bytes]; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def descriptors() -> int:
    """Open ones; 0 where the system does not say."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
