"""Fan-out of notifications to bounded queues; no I/O."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import UNSET, structs

from tailnet.agent.localapi.schema.bus import (
    FELL_BEHIND,
    HEALTH_ACTIONS,
    NO_NETMAP,
    PEER_CHANGES,
    PEER_PATCHES,
    PEER_WIREGUARD_STATE,
    WATCH_ENGINE_UPDATES,
    Notify,
)

QUEUE = 128  # notifications that wait for one watcher; local.go WatchNotificationsAs


class Subscription:
    """One watcher's queue.

    When it is full the watcher is told that it fell behind, after what it already has, and gets
    nothing more.
    """

    def __init__(self, mask: int, on_close: "Callable[[Subscription], None]") -> None:
        self._mask = mask
        self._on_close = on_close
        self._queue: deque[Notify] = deque()
        self._closed = False
        self._wake: Callable[[], None] | None = None

    @property
    def mask(self) -> int:
        """What is asked for."""
        return self._mask

    @property
    def closed(self) -> bool:
        """Nothing more will come after what :meth:`take` gives."""
        return self._closed

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there is something to take, or the end; at once if so now."""
        self._wake = wake
        if self._queue or self._closed:
            wake()

    def take(self) -> list[Notify]:
        """Everything that waits, oldest first."""
        out = list(self._queue)
        self._queue.clear()
        return out

    def put(self, notify: Notify) -> None:
        """Add one notification, cut down to what the mask asks for."""
        wanted = self._masked(notify)
        if self._closed or wanted is None:
            return
        if len(self._queue) >= QUEUE:
            self._queue.append(Notify(err_message=FELL_BEHIND))
            self.close()
            return
        self._queue.append(wanted)
        self._signal()

    def close(self) -> None:
        """End the watch.  Idempotent."""
        if not self._closed:
            self._closed = True
            self._on_close(self)
            self._signal()

    def _signal(self) -> None:
        if self._wake is not None:
            self._wake()

    def _masked(self, notify: Notify) -> Notify | None:
        cut: dict[str, object] = {}
        if not self._mask & WATCH_ENGINE_UPDATES and notify.engine is not None:
            cut["engine"] = None
        if not self._mask & PEER_WIREGUARD_STATE and notify.peer_state is not UNSET:
            cut["peer_state"] = UNSET
        if not self._mask & HEALTH_ACTIONS and isinstance(notify.health, dict):
            cut["health"] = _without_actions(notify.health)
        less = NO_NETMAP | PEER_CHANGES | PEER_PATCHES
        later = notify.session_id is UNSET  # the first message has what was asked for
        if self._mask & less and later and notify.net_map is not None:
            cut["net_map"] = None
        if not self._mask & (PEER_CHANGES | PEER_PATCHES):
            for name in ("self_change", "peers_changed", "peers_removed", "user_profiles"):
                if getattr(notify, name) is not UNSET:
                    cut[name] = UNSET
        if not cut:
            return notify
        left = structs.replace(notify, **cut)
        return None if left == Notify(version=notify.version) else left


def _without_actions(health: dict[str, Any]) -> dict[str, Any]:
    """With the actions at the end of the texts.

    Source: tailscale ipn/ipnlocal/local.go, appendHealthActions.
    """
    warnings = {}
    for code, warning in health["Warnings"].items():
        plain = {name: value for name, value in warning.items() if name != "PrimaryAction"}
        if action := warning.get("PrimaryAction"):
            plain["Text"] = f"{warning['Text']} {action['Label']}: {action['URL']}"
        warnings[code] = plain
    return {**health, "Warnings": warnings}


class Bus:
    """Everyone who watches.  :meth:`publish` never blocks and never fails."""

    def __init__(self) -> None:
        self._watchers: list[Subscription] = []

    def __len__(self) -> int:
        return len(self._watchers)

    def wants(self, bits: int) -> bool:
        """Somebody asks for one of these."""
        return any(watcher.mask & bits for watcher in self._watchers)

    @property
    def wants_maps(self) -> bool:
        """Somebody takes whole network maps."""
        less = NO_NETMAP | PEER_CHANGES | PEER_PATCHES
        return any(not watcher.mask & less for watcher in self._watchers)

    def watch(self, mask: int, initial: Iterable[Notify] = ()) -> Subscription:
        """Begin a watch whose first messages are ``initial``."""
        watcher = Subscription(mask, self._remove)
        self._watchers.append(watcher)
        for notify in initial:
            watcher.put(notify)
        return watcher

    def publish(self, notify: Notify) -> None:
        """Tell everyone."""
        for watcher in tuple(self._watchers):
            watcher.put(notify)

    def close(self) -> None:
        """End every watch."""
        for watcher in tuple(self._watchers):
            watcher.close()

    def _remove(self, watcher: Subscription) -> None:
        self._watchers.remove(watcher)
