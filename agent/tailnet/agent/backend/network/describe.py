"""The host's network and what became of it, as a tree for people who debug."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from tailnet.platform.interface import NetworkEvent, NetworkState


class Happened(NamedTuple):
    """An event, its number since the start, and when it was."""

    number: int
    at: datetime
    event: NetworkEvent


def describe(state: NetworkState | None, recent: Iterable[Happened]) -> dict[str, object]:
    """State and the latest events; names and numbers only."""
    interfaces = {} if state is None else state.interfaces
    return {
        "DefaultV4": "" if state is None else state.default_v4,
        "DefaultV6": "" if state is None else state.default_v6,
        "Interfaces": {
            name: {"Up": one.up, "Addrs": sorted(map(str, one.addrs))}
            for name, one in sorted(interfaces.items())
        },
        "Events": [
            {
                "Number": one.number,
                "At": one.at.isoformat(timespec="milliseconds"),
                "Change": one.event.change.value,
                "Reason": one.event.reason,
                "Slept": one.event.slept,
            }
            for one in recent
        ],
    }
