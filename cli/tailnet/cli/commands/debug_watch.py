"""``tnet debug watch-ipn``: the bus of the LocalAPI, as it is.

Source: tailscale cmd/tailscale/cli/debug.go, runWatchIPN; ipn/backend.go, NotifyWatchOpt.
"""

from collections.abc import Callable
from typing import Any

import click

from tailnet.agent.localapi.schema.bus import (
    HEALTH_ACTIONS,
    INITIAL_HEALTH,
    INITIAL_NETMAP,
    INITIAL_PREFS,
    INITIAL_STATE,
    INITIAL_STATUS,
    INITIAL_SUGGESTED_EXIT_NODE,
    NO_NETMAP,
    NO_PRIVATE_KEYS,
    PEER_CHANGES,
    PEER_PATCHES,
    PEER_WIREGUARD_STATE,
    WATCH_ENGINE_UPDATES,
)
from tailnet.cli.client import LocalClient
from tailnet.cli.commands.debug_raw import show
from tailnet.cli.connect import with_client
from tailnet.cli.flags import GoCommand, flag

ALL_INITIAL = INITIAL_STATE | INITIAL_PREFS | INITIAL_NETMAP | INITIAL_HEALTH | INITIAL_STATUS
BITS = {
    "initial": (ALL_INITIAL, "Begin with state, settings, network map, health and status."),
    "initial-health": (INITIAL_HEALTH, "Begin with health."),
    "initial-status": (INITIAL_STATUS, "Begin with the status."),
    "initial-suggested-exit-node": (INITIAL_SUGGESTED_EXIT_NODE, "Begin with that."),
    "engine-updates": (WATCH_ENGINE_UPDATES, "Traffic too, again and again."),
    "peer-wireguard-state": (PEER_WIREGUARD_STATE, "Peers' WireGuard sessions too."),
    "health-actions": (HEALTH_ACTIONS, "With the pages that help, of health, apart."),
}
NOTHING_FOLLOWS = {
    "initial-drive-shares": 32,
    "initial-outgoing-files": 64,
    "initial-client-version": 2048,
}
"""Upstream's bits of what the daemon does not have; it takes them and says nothing of it."""


def _bits(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, (_, help_) in reversed(BITS.items()):
        function = flag(name, help=help_)(function)
    for name in NOTHING_FOLLOWS:
        function = flag(name, help="Upstream's; nothing follows here.", hidden=True)(function)
    return function


@click.command("watch-ipn", cls=GoCommand, help="Print what happens, as JSON, until Ctrl-C.")
@_bits
@flag("peer-changes", default=True, help="Peers that come, change and go, one by one.")
@flag("peer-patches", default=True, hidden=True, help="Upstream's; changes are whole peers.")
@flag("netmap", default=True, help="Whole network maps too.")
@click.option("--count", type=click.IntRange(0), default=0, metavar="N", help="End after so many.")
@with_client
def watch_ipn(
    client: LocalClient,
    *,
    peer_changes: bool,
    peer_patches: bool,
    netmap: bool,
    count: int,
    **wanted: bool,
) -> None:
    """One JSON object after the other."""
    mask = NO_PRIVATE_KEYS
    for name, (bits, _) in BITS.items():
        mask |= bits if wanted[name.replace("-", "_")] else 0
    for name, bit in NOTHING_FOLLOWS.items():
        mask |= bit if wanted[name.replace("-", "_")] else 0
    if peer_changes:
        mask |= PEER_CHANGES | (PEER_PATCHES if peer_patches else 0)
    mask |= 0 if netmap else NO_NETMAP
    watch = client.watch(mask)
    seen = 0
    try:
        while not count or seen < count:
            show(watch.next_line(None))
            seen += 1
    finally:
        watch.close()
