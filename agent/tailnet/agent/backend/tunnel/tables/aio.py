"""The packets' tables follow a plan: peers, filter, own addresses, paths and host."""

from collections.abc import Callable, Iterable, Mapping

from tailnet.agent.addr import AddrPort, IPNetwork
from tailnet.agent.backend.exitnode import without_ours
from tailnet.agent.backend.peerplan import PeerPlan, less
from tailnet.agent.backend.plan import Plan
from tailnet.agent.datapath.aio import Dataplane
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.aio import Magicsock
from tailnet.agent.slices import SLICE, Steps, sliced
from tailnet.agent.wireguard.events import PeerState

TOGETHER = 4  # slices that are given together: each call of the datapath makes new tables, 0.2 ms


class Tables:
    """All that decides about packets, as one plan says.

    Attributes:
        peers: what the tables have.
        filter: which rules are in force.
    """

    def __init__(
        self,
        datapath: Datapath,
        dataplane: Dataplane,
        sock: Magicsock,
        *,
        local_networks: Callable[[], tuple[IPNetwork, ...]],
        set_routes: Callable[[Plan], None],
    ) -> None:
        """``local_networks``: of this host's links, now; ``set_routes``: the host's share."""
        self._datapath = datapath
        self._dataplane = dataplane
        self._sock = sock
        self._local_networks = local_networks
        self._set_routes = set_routes
        self._wanted_local: tuple[IPNetwork, ...] = ()
        self._local: tuple[IPNetwork, ...] | None = None
        self._left: set[PeerId] = set()  # whose sessions we ended by going down
        self._open: tuple[AddrPort, ...] = ()
        self.filter: Filter | None = None
        self.peers: dict[PeerId, PeerPlan] = {}

    def apply(self, plan: Plan | None, idle: Plan, alive: PeerId | None = None) -> Steps[None]:
        """Make the packets' tables and the kernel's follow ``plan``, in slices; each as a diff.

        First take away, then change the rules, then give: at no stop can a peer do what neither
        plan lets it do.  The kernel works on its routes while peers are given: what is for one
        that is not there yet goes nowhere.  If it is given up, the next call must be for a plan
        with all peers.

        ``None`` is "no network": nothing gets in, and the host is as ``idle`` says, from the
        first slice on.  ``alive``: a peer whose new disco key came through its session, which
        therefore is good.
        """
        down = plan is None
        if plan is None:
            plan = idle
            self._set_rules(plan)
            self._set_routes(plan)
        changed = plan.changed
        news: Mapping[PeerId, PeerPlan | None]
        news = plan.in_order() if changed is None else {p: plan.peers.get(p) for p in changed}
        for part in sliced(list(less(self.peers, news, everything=changed is None).items())):
            if down:
                self._left |= self._with_session(peer for peer, _ in part)
            self._change_peers(dict(part))
            if len(part) == SLICE:
                yield
        self._set_rules(plan)
        if not down:
            self._set_routes(plan)
        restarted: set[PeerId] = set()
        for part in sliced([(p, n) for p, n in news.items() if n is not None], TOGETHER):
            restarted |= self._restarted(part) - {alive}
            self._change_peers(dict(part))
            if len(part) == TOGETHER * SLICE:
                yield
        if changed is None and list(self.peers) != list(news):
            # All of it was said, in parts; but of two peers that claim one prefix the last of all
            # has it, and in the tables another may be the last.
            self.peers = plan.in_order()
            self._dataplane.set_peers({p: (n.key, n.entry) for p, n in self.peers.items()})
        left = {peer for peer in self._left if peer in plan.peers}
        self._left -= left
        for peer in restarted:
            self._dataplane.note_restart(peer)
        for peer in self._with_session(restarted) | left:
            self._dataplane.want_session(peer)
        if not down:
            self._sock.set_telling(plan.telling)

    def set_open(self, ports: tuple[AddrPort, ...]) -> None:
        """TCP to these passes the filter, whatever the plan says."""
        if ports != self._open:
            self._open = ports
            if self.filter is not None:
                self._datapath.set_filter(self.filter.opened(ports))

    def local_changed(self) -> None:
        """The links of this host are others."""
        local = self._wanted_local
        if any(net.prefixlen == 0 for net in local):
            local = without_ours(local, self._local_networks())
        if local != self._local:
            self._local = local
            self._datapath.set_local(local)

    def _set_rules(self, plan: Plan) -> None:
        self._wanted_local = plan.local
        self.local_changed()
        if plan.filter is not self.filter:
            self.filter = plan.filter
            self._datapath.set_filter(plan.filter.opened(self._open))

    def _change_peers(self, changed: Mapping[PeerId, PeerPlan | None]) -> None:
        """Tell all tables, the datapath first: a path needs its peer there."""
        differ = {p: new for p, new in changed.items() if self.peers.get(p) is not new}
        if not differ:
            return
        for peer, new in differ.items():
            if new is None:
                self.peers.pop(peer, None)
            else:
                self.peers[peer] = new
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
            if (known := self.peers.get(peer)) is not None
            and known is not plan
            and known.info.disco_key != plan.info.disco_key
        }
