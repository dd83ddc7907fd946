"""One line on how this daemon is, for whoever lists the services of the host.

Source: tailscale ipn/ipnlocal/local.go, setStateLocked (the texts for systemd).
"""

from tailnet.agent.backend.state import State
from tailnet.agent.tailcfg.node import Node


def line(state: State, node: Node | None, url: str) -> str:
    """``Connected; NAME; ADDRESSES`` and its like; a person logs in at ``url``."""
    match state:
        case State.NEEDS_LOGIN:
            return f"Needs login: {url}" if url else "Needs login: tnet up"
        case State.NEEDS_MACHINE_AUTH:
            return "Needs approval of this machine by an administrator"
        case State.STOPPED:
            return "Stopped; tnet up connects"
        case State.RUNNING if node is not None:
            return "; ".join(("Connected", node.name.rstrip("."), *map(str, node.ips())))
        case _:
            return "Starting"
