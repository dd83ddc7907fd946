"""What the lab can ask of relays, STUN and web server; each ``do_*`` method is one thing."""

import os

from integration.lab.admin import Refused
from integration.lab.config import Relay, ServersConfig
from integration.lab.derp import DerpServer
from integration.lab.portal import WebServer
from integration.lab.stun import StunServer
from integration.lab.tls import make_server_tls
from integration.lab.vandal import VandalRelay

from tailnet.agent import clock
from tailnet.agent.keys import NodePrivate
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

SPARE = 100  # ports from a region's first server to its second


def derp_map(config: ServersConfig, certificate_sha256: str) -> DERPMap:
    """The relays as control tells nodes of them; their certificate may be pinned by its hash."""
    regions: dict[int, DERPRegion | None] = {}
    for number, relay in enumerate(config.relays):
        nodes = tuple(
            DERPNode(
                name=f"{relay.region}{letter}",
                region_id=relay.region,
                host_name=config.address,
                cert_name=f"sha256-raw:{relay.pin or certificate_sha256}" if config.pinned else "",
                ipv4=config.address,
                ipv6="none",
                stun_port=config.stun_port + number,
                derp_port=port,
                can_port80=config.web,
            )
            for letter, port in zip("ab", ports(relay), strict=False)
        )
        if config.ipv6:
            nodes += (
                DERPNode(
                    name=f"{relay.region}six",
                    region_id=relay.region,
                    host_name=config.ipv6,
                    ipv4="none",
                    ipv6=config.ipv6,
                    stun_port=config.stun_port + number,
                    stun_only=True,
                ),
            )
        code = f"lab{relay.region}"
        regions[relay.region] = DERPRegion(
            region_id=relay.region, region_code=code, region_name=code, nodes=nodes
        )
    return DERPMap(regions=regions, omit_default_regions=True)


def ports(relay: Relay) -> list[int]:
    """Of the servers of a region."""
    return [relay.listens, *([relay.listens + SPARE] if relay.spare else [])]


class RelayDesk:
    """Relays, STUN and what answers on port 80.

    Attributes:
        map: the relays as control tells nodes of them.
    """

    def __init__(self, config: ServersConfig) -> None:
        self._config = config
        self._tls, certificate_sha256, authority = make_server_tls([config.address])
        config.authority.write_text(authority)
        self.map = derp_map(config, certificate_sha256)
        self._stun = {relay.region: StunServer() for relay in config.relays}
        self._web = WebServer()
        self._ports = {relay.region: relay.listens for relay in config.relays}
        self._private = {region: NodePrivate.from_random(os.urandom(32)) for region in self._ports}
        self._relays: dict[int, DerpServer | VandalRelay] = {}
        self._spares = {
            relay.listens + SPARE: DerpServer(
                NodePrivate.from_random(os.urandom(32)), now=clock.now, random_bytes=os.urandom
            )
            for relay in config.relays
            if relay.spare
        }

    async def start(self) -> None:
        """Start all of them."""
        address = self._config.address
        for number, stun in enumerate(self._stun.values()):
            for each in filter(None, (address, self._config.ipv6)):
                await stun.start(each, self._config.stun_port + number)
        if self._config.web:
            await self._web.start(address)
        for port, spare in self._spares.items():
            await spare.start(address, port, self._tls)
        for relay in self._config.relays:
            if not relay.pin:
                await self.do_start_derp(relay.region)

    async def stop(self) -> None:
        """End all that run."""
        for relay in self._relays.values():
            await relay.stop()
        for spare in self._spares.values():
            await spare.stop()
        for stun in self._stun.values():
            await stun.stop()
        await self._web.stop()

    @property
    def mischief(self) -> int:
        """How often they have misbehaved."""
        return sum(each.done for each in self._relays.values() if isinstance(each, VandalRelay))

    async def do_set_stun(self, region: int, delay: float = 0.0, silent: bool = False) -> None:
        """How far a region's STUN server seems to be [s], or that it says nothing."""
        self._stun[region].delay, self._stun[region].silent = delay, silent

    async def do_set_portal(self, captive: bool) -> None:
        """Whether somebody else answers on port 80."""
        self._web.captive = captive

    async def do_start_derp(self, region: int, fault: str = "") -> None:
        """Start a relay, with the key it always had, and with a fault if one is named."""
        private = self._private[region]
        relay: DerpServer | VandalRelay
        if fault:
            relay = VandalRelay(private, fault)
        else:
            relay = DerpServer(private, now=clock.now, random_bytes=os.urandom)
        await relay.start(self._config.address, self._ports[region], self._tls)
        self._relays[region] = relay

    async def do_stop_derp(self, region: int) -> None:
        """Cut all connections of a relay and stop listening."""
        if (relay := self._relays.pop(region, None)) is None:
            msg = f"relay {region} is not running"
            raise Refused(msg)
        await relay.stop()

    async def do_stop_spare(self, region: int) -> None:
        """End the second relay of a region."""
        await self._spares.pop(self._ports[region] + SPARE).stop()

    async def do_restart_derp(self, region: int) -> None:
        """Stop and start."""
        await self.do_stop_derp(region)
        await self.do_start_derp(region)

    async def do_relayed(self, region: int) -> int:
        """Packets a relay has handed on since it started."""
        return self._relays[region].relayed
