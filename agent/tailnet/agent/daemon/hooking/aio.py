"""What happens to a ``Node``, told to the hooks of its configuration file."""

import asyncio
from collections.abc import Iterable

from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.events import NetworkMapChanged, NodeEvent, ProfileChanged
from tailnet.agent.backend.state import State
from tailnet.agent.datapath.interface import Path
from tailnet.agent.hooks.aio import HookRunner
from tailnet.agent.hooks.happenings import KEY_WARNINGS, Happening, Sight, Witness
from tailnet.agent.keys import PeerId
from tailnet.agent.tailcfg.node import Node as Peer
from tailnet.agent.tailcfg.node import NodeID

LAST_WORDS = 3.0  # seconds that hooks get when the daemon ends
LONGEST_TIMER = 86_400.0  # seconds; clocks are set in between


class Hooking:
    """Watches one node."""

    def __init__(self, node: Node, runner: HookRunner) -> None:
        self._node = node
        self._runner = runner
        self._witness = Witness()
        self._timer: asyncio.TimerHandle | None = None
        node.watch(self._saw)
        node.tunnel.magicsock.on_path(self._path)

    async def start(self) -> None:
        """Begin with the hooks there are."""
        self._runner.configure(self._node.hooks)

    async def close(self) -> None:
        """Tell of the end, wait a little for what runs, and end it."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell(self._witness.state(False, *self._own()))
        await self._runner.close(LAST_WORDS)

    def _saw(self, event: NodeEvent) -> None:
        node = self._node
        self._runner.configure(node.hooks)
        if not node.hooks or isinstance(event, ProfileChanged):
            self._witness = Witness()  # what is found next is no news
        if not node.hooks:
            return
        witness = self._witness
        match event:
            case NetworkMapChanged(netmap, changed):
                peers = netmap.peers
                numbers = peers if changed is None else changed
                self._tell(
                    witness.peers(
                        {n: _sight(peers.get(NodeID(n))) for n in numbers},
                        everything=changed is None,
                    )
                )
            case _:
                pass
        self._tell(witness.state(node.state is State.RUNNING, *self._own()))
        self._exit_node()
        self._key()

    def _exit_node(self) -> None:
        """Tell when it is there no more, or control says that it is offline."""
        plan, netmap, prefs = self._node.plan, self._node.netmap, self._node.account.prefs
        if plan is None or netmap is None or self._node.state is not State.RUNNING:
            return
        peer = netmap.peers.get(plan.exit_node) if plan.exit_node is not None else None
        lost = plan.exit_node_missing or (peer is not None and peer.online is False)
        wanted = prefs.exit_node_ip or prefs.exit_node_id or prefs.auto_exit_node
        self._tell(self._witness.exit_node(lost, peer.base_name if peer is not None else wanted))

    def _own(self) -> tuple[str, str]:
        """This node's name and address."""
        own = self._node.netmap.self_node if self._node.netmap is not None else None
        if own is None:
            return self._node.host_name, ""
        return own.base_name, str(own.ips()[0]) if own.ips() else ""

    def _key(self) -> None:
        """Tell of the key's end, and look again at the next moment that matters."""
        left = self._node.key_left
        self._tell(self._witness.key(left))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits = [left - limit for limit in KEY_WARNINGS if left > limit] if left is not None else []
        if waits:
            wait = min(min(waits) + 1.0, LONGEST_TIMER)
            self._timer = asyncio.get_running_loop().call_later(wait, self._key)

    def _path(self, peer: PeerId, path: Path) -> None:
        plan = self._node.plan if self._node.hooks else None
        known = None if plan is None else plan.peers.get(peer)
        if known is not None and (text := _path_text(path)):
            self._tell(self._witness.path(known.node.id, text))

    def _tell(self, happenings: Iterable[Happening]) -> None:
        for happening in happenings:
            self._runner.happened(happening)


def _sight(node: Peer | None) -> Sight | None:
    if node is None:
        return None
    ips = node.ips()
    return Sight(node.base_name, str(ips[0]) if ips else "", node.online)


def _path_text(path: Path) -> str:
    """Empty while it is not decided."""
    if path.udp is not None:
        return "" if path.relay else f"direct {path.udp}"
    return "relay" if path.relay else ""
