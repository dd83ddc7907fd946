"""Looks at the daemon, one for all pages that are open."""

import threading

from tailnet.agent import clock
from tailnet.agent.localapi.schema.paths import PathDetails
from tailnet.cli.client import LocalClient
from tailnet.cli.meter import Counters, Meter
from tailnet.cli.web.page import View

FRESH = 0.5  # seconds that a look serves


class Looker:
    """Called from the threads of all pages."""

    def __init__(self, client: LocalClient, *, actions: bool) -> None:
        self._client = client
        self._actions = actions
        self._meter = Meter()
        self._last: tuple[float, View] | None = None
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
            view = View(status, paths, self._meter.look(counters, now), self._actions)
            self._last = now, view
            return view
