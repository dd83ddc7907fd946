"""``Checkup``: looks whether anything is wrong, when asked and when time alone can change that."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tailnet.agent.backend.account.aio import Account
from tailnet.agent.backend.ailments import HealthFacts
from tailnet.agent.backend.files.aio import StateStore
from tailnet.agent.backend.follow.aio import Follower
from tailnet.agent.backend.health import Health, HealthWarning
from tailnet.agent.backend.keptmap import in_words
from tailnet.agent.backend.login import key_left
from tailnet.agent.backend.naming.aio import Naming
from tailnet.agent.backend.network.aio import NetworkWatch
from tailnet.agent.backend.prefs import NETFILTER_ON
from tailnet.agent.backend.ruling.aio import Ruling
from tailnet.agent.backend.state import State
from tailnet.agent.backend.tunnel.aio import Tunnel
from tailnet.agent.dates import Calendar
from tailnet.platform.interface import NetfilterMode

STEP = 60.0  # seconds between two looks at what changes by itself, as the age of a map


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node is made of, as far as it can be ill."""

    store: StateStore
    account: Account
    ruling: Ruling
    tunnel: Tunnel
    naming: Naming
    follower: Follower
    network: NetworkWatch


class Checkup:
    """Keeps the list of warnings current.

    Args:
        state: the backend's, now.
        kept_since: when the kept map in use was kept; ``None``: none is in use.
        on_change: other warnings show.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the node
        self,
        parts: Parts,
        *,
        state: Callable[[], State],
        kept_since: Callable[[], datetime | None],
        on_change: Callable[[], None],
        now: Callable[[], float],
        wall: Callable[[], datetime],
        calendar: Calendar,
    ) -> None:
        self._parts = parts
        self._state = state
        self._kept_since = kept_since
        self._on_change = on_change
        self._now = now
        self._wall = wall
        self._calendar = calendar
        self._health = Health()
        self._timer: asyncio.TimerHandle | None = None
        self._began = now()
        self._closed = False

    @property
    def shown(self) -> tuple[HealthWarning, ...]:
        """What is wrong, worth showing."""
        return self._health.shown

    def look(self) -> None:
        """Facts may have changed."""
        if self._health.handle_facts(self.facts(), self._now(), self._wall()):
            self._on_change()
        if self._timer is not None:
            self._timer.cancel()
        at = self._health.next_timeout()
        delays = [at - self._now()] if at is not None else []
        if self._kept_since() is not None or self._forwarding_problem() or self._calendar.ahead:
            delays.append(STEP)
        self._timer = (
            asyncio.get_running_loop().call_later(max(0.0, min(delays)), self.look)
            if delays and not self._closed
            else None
        )

    def close(self) -> None:
        """Look no more by itself."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _has_network(self) -> bool:
        """The host says so; a relay that answers proves it, whatever the host says."""
        tunnel, connected = self._parts.tunnel, self._parts.network.connected
        if connected is None:
            return bool(tunnel.endpoints or tunnel.live_relays)
        return connected or bool(tunnel.live_relays)

    def facts(self) -> HealthFacts:
        """What warnings are derived from, now."""
        parts = self._parts
        account, tunnel, naming = parts.account, parts.tunnel, parts.naming
        plan, netmap = parts.follower.plan, account.netmap
        home = tunnel.net_info.preferred_derp if tunnel.net_info is not None else 0
        return HealthFacts(
            state=self._state(),
            uptime=self._now() - self._began,
            want_running=account.prefs.want_running,
            registered=account.registered,
            store_problem=parts.store.problem,
            config_problem=parts.ruling.problem,
            login_problem=account.login_problem,
            control_problem=account.control_problem,
            control_cause=account.control_cause,
            map_age=self._age_of_map(),
            clock_off=self._calendar.ahead,
            has_network=self._has_network(),
            behind_portal=tunnel.diagnosis.behind_portal,
            has_relays=plan is not None and bool(plan.derp_map.regions),
            home=home,
            live_relays=len(tunnel.live_relays),
            relay_silent=home in tunnel.diagnosis.silent_relays,
            relay_problems=tunnel.diagnosis.relay_problems,
            has_udp=tunnel.has_udp,
            port_problem=tunnel.port_problem,
            forwarding_problem=self._forwarding_problem(),
            strict_filter=self._loses_answers(),
            filter_refused=plan is not None and plan.filter_refused,
            router_problem=tunnel.router_problem,
            firewall_problem=tunnel.firewall_problem,
            foreign_rules=tunnel.obstacles[0],
            foreign_firewall=tunnel.obstacles[1],
            exit_without_snat=account.prefs.no_snat and account.prefs.offers_exit,
            containers_filtered=plan is not None
            and plan.firewall.stateful
            and plan.firewall.mode is NetfilterMode.ON
            and parts.network.runs_docker,
            key_left=key_left(netmap, self._calendar.today()),
            exit_node_missing=account.prefs.wants_exit_node
            and (plan is None or plan.exit_node_missing),
            routes_ignored=plan is not None and plan.routes_ignored,
            dns_unreadable=naming.unreadable,
            dns_refused=naming.refused or naming.trouble,
            dns_overwritten=naming.overwritten,
            dns_failing=naming.resolver.failing if account.prefs.corp_dns else "",
            dns_looping=naming.resolver.looping,
            peer_relay_problem=tunnel.peer_relay.problem,
            messages=netmap.display_messages if netmap is not None else {},
            lines=netmap.health if netmap is not None else (),
        )

    def _forwarding_problem(self) -> str:
        parts = self._parts
        return parts.tunnel.forwarding.problem(parts.account.prefs.advertise_routes or ())

    def _loses_answers(self) -> bool:
        """A strict filter takes answers to our own packets for forged; see the firewall."""
        prefs = self._parts.account.prefs
        unmarked = prefs.wants_exit_node and prefs.netfilter_mode != NETFILTER_ON
        return unmarked and self._parts.tunnel.forwarding.strict_filter()

    def _age_of_map(self) -> str:
        since = self._kept_since()
        if since is None:
            return ""
        return in_words((self._calendar.today() - since).total_seconds())
