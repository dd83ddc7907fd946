"""A ``Node`` for those who try something out beside what it does."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing

from msgspec import UNSET

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.aio import Node
from tailnet.agent.errors import UserError
from tailnet.agent.keys import DiscoPrivate
from tailnet.agent.localapi.schema.basics import ZERO_TIME
from tailnet.agent.localapi.schema.bus import Notify
from tailnet.agent.localapi.schema.experiments import DialTry, EndpointChange, RegionReport
from tailnet.agent.localapi.view.paths import words
from tailnet.agent.netstack.interface import Connection, DialError
from tailnet.agent.portmap.interface import Network, Protocol
from tailnet.agent.portmap.trial.aio import PortmapTrial
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.platform.interface import Bypass

DIAL_PATIENCE = 5.0  # seconds; debug.go serveDebugDialTypes


class ExperimentsView:
    """See :class:`tailnet.agent.localapi.interface.Experiments`."""

    def __init__(
        self,
        node: Node,
        bypass: Bypass,
        *,
        dial: Callable[[str, int], Awaitable[Connection]],
        userspace: bool,
        publish: Callable[[Notify], None],
    ) -> None:
        self._node = node
        self._bypass = bypass
        self._dial = dial
        self._userspace = userspace
        self.notify = publish

    def uses_mark(self) -> bool:
        """As upstream says: nothing can go astray without a tunnel device either."""
        return self._bypass.uses_mark or self._userspace

    def endpoint_changes(self, ip: IPAddress) -> tuple[EndpointChange, ...]:
        """From the path's history."""
        node = self._node
        peer = node.peer_at(ip) if node.plan is not None else None
        about = None if peer is None else node.tunnel.magicsock.report(peer)
        if about is None:
            msg = f"no peer has the address {ip}"
            raise UserError(msg)
        befores = (None, *about.history)
        return tuple(
            EndpointChange(
                when=node.wall_of(change.at) or ZERO_TIME,
                what=change.why,
                from_=UNSET if before is None else words(before.path),
                to=words(change.path),
            )
            for before, change in zip(befores, about.history, strict=False)
        )

    async def dial_types(self, to: AddrPort) -> tuple[DialTry, ...]:
        """Outside the tunnel, as ``dial`` does, into the tunnel, and as any program would."""
        device = self._node.tunnel.device

        def into_tunnel(sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())

        ways = {
            "SystemDial": _connect(to, self._bypass.mark),
            "UserDial": self._by_dial(to),
            "BareDial": _connect(to, lambda _: None),
        }
        if not self._userspace:
            ways["PeerDial"] = _connect(to, into_tunnel)
        tries = await asyncio.gather(*map(_tried, ways.values()))
        return tuple(DialTry(way, error) for way, error in zip(ways, tries, strict=True))

    async def _by_dial(self, to: AddrPort) -> None:
        try:
            connection = await self._dial(str(to.ip), to.port)
        except DialError as error:
            raise OSError(str(error)) from None
        connection.abort()

    async def derp_region(self, name: str) -> RegionReport:
        """Whether the map has it or not."""
        netmap = self._node.netmap
        derp_map = DERPMap() if netmap is None else netmap.derp_map
        found = await self._node.tunnel.diagnosis.region(derp_map, name)
        return RegionReport(
            info=tuple(found.info), warnings=tuple(found.warnings), errors=tuple(found.errors)
        )

    def portmap(
        self, seconds: float, protocols: frozenset[Protocol], network: Network | None
    ) -> PortmapTrial:
        """Beside the mapping in use."""
        mapper = self._node.tunnel.portmapper
        return PortmapTrial(mapper, seconds, protocols=protocols, network=network, now=clock.now)

    def rotate_disco_key(self) -> None:
        """Ours, and then control's."""
        disco = DiscoPrivate.from_random(os.urandom(32))
        self._node.tunnel.set_disco_key(disco)
        self._node.account.line.set_disco_key(disco)

    def force_home(self, region: int | None) -> None:
        """Until the next start."""
        self._node.tunnel.magicsock.force_home(region)

    def pick_home(self) -> None:
        """Until the measurement after the next."""
        if not self._node.tunnel.magicsock.pick_home():
            msg = "there is no other region"
            raise UserError(msg)


async def _connect(to: AddrPort, prepare: Callable[[socket.socket], None]) -> None:
    family = socket.AF_INET if to.ip.version == 4 else socket.AF_INET6
    with closing(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)) as sock:
        prepare(sock)
        await asyncio.get_running_loop().sock_connect(sock, (str(to.ip), to.port))


async def _tried(work: Awaitable[None]) -> str:
    """Why it did not do, empty if it did."""
    try:
        async with asyncio.timeout(DIAL_PATIENCE):
            await work
    except TimeoutError:
        return "timed out"
    except OSError as error:
        return error.strerror or str(error)
    return ""
