"""Looks at the daemon, one for all pages that are open."""

import threading

from tailnet.agent import clock
from tailnet.agent.localapi.schema.paths import PathDetails
from tailnet.cli.client import LocalClient
from tailnet.cli.meter import Counters, Meter
from tailnet.cli.web.page import View
from tailnet.cli.web.plan import Plan, look

FRESH = 0.5  # seconds that a look serves
PLAN_FRESH = 10.0  # seconds that a plan does: there may be thousands of routes


class Looker:
    """Called from the threads of all pages."""

    def __init__(self, client: LocalClient, *, actions: bool) -> None:
        self._client = client
        self._actions = actions
        self._meter = Meter()
        self._last: tuple[float, View] | None = None
        self._plan: tuple[float, Plan] | None = None
        self._turn = threading.Lock()

    def __call__(self) -> View:
        """The last look if it is fresh, else a new one."""
        with self._turn:
            now = clock.now()
            if self._last is not None and now - self._last[0] < FRESH:
                return self._last[1]
            status = self._client.status()
            paths = {}
            if status.backend_state == "Running":
                paths = {p.id: p for p in self._client.get("path", list[PathDetails])}
            peers = (status.peer or {}).values()
            counters = {p.public_key: Counters(p.rx_bytes, p.tx_bytes) for p in peers}
            rates = self._meter.look(counters, now)
            view = View(status, paths, rates, self._actions, self._planned(now))
            self._last = now, view
            return view

    def _planned(self, now: float) -> Plan:
        """Routes and names, asked for less often."""
        if self._plan is None or now - self._plan[0] >= PLAN_FRESH:
            self._plan = now, look(self._client)
        return self._plan[1]
