"""The control client's shell: sockets, TLS, tasks and the clock."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tailnet.agent.addr import AddrPort
from tailnet.agent.control.events import ControlEvent
from tailnet.agent.errors import LocalProtocolError
from tailnet.agent.keys import DiscoPublic, LockPublic, MachinePrivate, NodePrivate
from tailnet.agent.tailcfg.node import Hostinfo


@dataclass(frozen=True)
class ControlConfig:
    """One login: which server, and who we are to it."""

    server_url: str
    machine_key: MachinePrivate
    node_key: NodePrivate | None
    """``None``: generate one."""
    old_node_key: NodePrivate | None
    lock_key: LockPublic
    disco_key: DiscoPublic
    auth_key: str = ""
    ephemeral: bool = False
    ca_file: str | None = None
    """PEM file of extra roots for ``GET /key``."""


class ControlClient:
    """Keeps one node registered and its network map current, until cancelled."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        config: ControlConfig,
        *,
        on_event: Callable[[ControlEvent], None],
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._config = config
        self._on_event = on_event
        self._mark = mark
        self._now = now
        self._wall = wall
        self._random_bytes = random_bytes

    def update(self, hostinfo: Hostinfo, endpoints: tuple[tuple[AddrPort, int], ...]) -> None:
        """Describe this node: ``endpoints`` are addresses with their tailcfg endpoint type."""

    def poke(self) -> None:
        """Reconnect now: the link changed."""

    async def run(self) -> None:
        """Log in and follow the map stream; retries for ever, ends by cancellation."""
        raise LocalProtocolError

    async def logout(self) -> None:
        """Expire the node key at the server; gives up after about 5 s."""
        raise LocalProtocolError
