"""What a tunnel says of itself to whoever looks for a fault."""

import asyncio
from collections.abc import Mapping

from tailnet.agent.backend.tunnel.tables.aio import Tables
from tailnet.agent.datapath import pcapng
from tailnet.agent.datapath.aio import Dataplane
from tailnet.agent.datapath.capture.aio import Capture
from tailnet.agent.datapath.interface import Carried, Datapath
from tailnet.agent.datapath.rejections import Rejections
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.errors import UserError
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.aio import Magicsock
from tailnet.agent.netcheck.region.aio import Findings
from tailnet.agent.netcheck.report import Report
from tailnet.agent.portmap.aio import PortMapper
from tailnet.agent.portmap.interface import PortmapSupport
from tailnet.agent.relay.aio import PeerRelay
from tailnet.agent.tailcfg.derpmap import DERPMap


class Diagnosis:
    """Reads the parts of a tunnel; changes none of them."""

    def __init__(  # noqa: PLR0913 - the parts that are read
        self,
        *,
        datapath: Datapath,
        dataplane: Dataplane,
        sock: Magicsock,
        derp: DerpFleet,
        tables: Tables,
        portmapper: PortMapper,
        peer_relay: PeerRelay,
    ) -> None:
        self._datapath = datapath
        self._dataplane = dataplane
        self._sock = sock
        self._derp = derp
        self._tables = tables
        self._portmapper = portmapper
        self._peer_relay = peer_relay
        self._netcheck_turn = asyncio.Lock()
        self._capture: Capture | None = None

    @property
    def behind_portal(self) -> bool:
        """The network wants a login by a web page."""
        report = self._sock.measured
        return report is not None and report.portal is True

    async def netcheck(
        self, derp_map: DERPMap, address: str, port: int
    ) -> tuple[Report, int, PortmapSupport]:
        """A full measurement from other sockets than ours; one at a time.

        Returns:
            Findings, the nearest region or 0, and what the gateway answers to.

        Raises:
            UserError: that cannot be sent from.
        """
        async with self._netcheck_turn:
            check = self._sock.make_netcheck()
            report, home = await check.run(derp_map, self._sock.ip_versions(), address, port)
        return report, home, await self._portmapper.probe()

    async def region(self, derp_map: DERPMap, name: str) -> Findings:
        """Try a region's relays; one measurement at a time."""
        async with self._netcheck_turn:
            check = self._sock.make_region_check()
            return await check.run(derp_map, name, self._sock.ip_versions())

    @property
    def relay_problems(self) -> Mapping[int, str]:
        """What relays complain of, by region."""
        return self._derp.health()

    @property
    def silent_relays(self) -> frozenset[int]:
        """See ``DerpFleet.silent``."""
        return self._derp.silent

    def capture(self, application: str, device: str) -> Capture:
        """Begin to copy all packets; whoever asked closes it.

        Args:
            application: who says so in the file.
            device: name of the tunnel's.

        Raises:
            UserError: there is a capture already.
        """
        if self._capture is not None and not self._capture.closed:
            msg = "a capture is running already; only one can"
            raise UserError(msg)
        head = pcapng.head(application, device)
        self._capture = Capture(self._datapath, head, self._name)
        return self._capture

    def _name(self, peer: PeerId) -> str:
        plan = self._tables.peers.get(peer)
        return "" if plan is None else plan.node.base_name

    @property
    def rejections(self) -> Rejections:
        """What peers told us about flows of ours that they do not let in."""
        return self._dataplane.rejections

    def traffic(self) -> Mapping[str, Carried]:
        """What was carried since the start, by kind of path."""
        return self._datapath.traffic()

    def drops(self) -> dict[str, dict[str, int]]:
        """What was not carried or not believed, by layer and reason; only what happened."""
        layers: dict[str, Mapping[str, int]] = {
            "packets": self._datapath.drops(),
            "handshakes": self._dataplane.dropped,
            "rejected": self._dataplane.rejections.counts,
            "disco": self._sock.drops(),
            "relays": self._derp.drops(),
            "peer relay": self._peer_relay.drops(),
            "portmap": self._portmapper.drops(),
        }
        return {
            layer: {reason: count for reason, count in counts.items() if count}
            for layer, counts in layers.items()
        }
