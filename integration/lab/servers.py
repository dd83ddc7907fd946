"""All servers of a lab in one process: ``python -m integration.lab.servers CONFIG.json``.

Runs in the namespace of the segment, prints ``ready`` when everything listens, and ends at SIGTERM.
The lab talks to it over the admin socket (:mod:`integration.lab.admin`); each ``do_*`` method of
:class:`Servers` is one thing it can be asked to do, ``do_stop_control`` as ``stop-control``.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from integration.lab.admin import MAX_LINE
from integration.lab.config import (
    AUTH_KEY,
    EPHEMERAL_KEY,
    EXPIRED_KEY,
    ONCE_KEY,
    TAGGED_KEY,
    Relay,
    ServersConfig,
)
from integration.lab.control import AuthKey, ControlServer, ControlSettings
from integration.lab.control_ailing import AilingControl
from integration.lab.derp import DerpServer
from integration.lab.portal import WebServer
from integration.lab.stun import StunServer
from integration.lab.tls import make_server_tls
from integration.lab.vandal import VandalControl, VandalRelay

from tailnet.agent import clock
from tailnet.agent.errors import TailnetError
from tailnet.agent.keys import MachinePrivate, NodePrivate, NodePublic
from tailnet.agent.tailcfg.codec import decode_untrusted
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.mapping import MapResponse

log = logging.getLogger("lab.servers")

SPARE = 100  # ports from a region's first server to its second


class Refused(Exception):
    """What was asked for cannot be done; the text says why."""


# What a request that makes no sense may end in; anything else is a bug and ends the servers.
_REFUSALS = (Refused, TailnetError, OSError, LookupError, AttributeError, TypeError, ValueError)


def derp_map(config: ServersConfig, certificate_sha256: str) -> DERPMap:
    """The relays as control tells nodes of them; their certificate is pinned by its hash."""
    regions: dict[int, DERPRegion | None] = {}
    for number, relay in enumerate(config.relays):
        nodes = tuple(
            DERPNode(
                name=f"{relay.region}{letter}",
                region_id=relay.region,
                host_name=config.address,
                cert_name=f"sha256-raw:{relay.pin or certificate_sha256}",
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


class Servers:
    """Control, DERP relays and STUN of one lab."""

    def __init__(self, config: ServersConfig) -> None:
        self._config = config
        self._tls, certificate_sha256, _ = make_server_tls([config.address])
        self._settings = ControlSettings(
            server_key=MachinePrivate.from_random(os.urandom(32)),
            auth_keys={
                AUTH_KEY: AuthKey(),
                EPHEMERAL_KEY: AuthKey(ephemeral=True),
                EXPIRED_KEY: AuthKey(expired=True),
                ONCE_KEY: AuthKey(reusable=False),
                TAGGED_KEY: AuthKey(tags=("tag:lab",)),
            },
            derp_map=derp_map(config, certificate_sha256),
            domain=config.domain,
        )
        self._control: ControlServer | None = None
        self._saved: bytes | None = None
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
        """Start everything."""
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
        await self.do_start_control()

    async def stop(self) -> None:
        """Stop everything that runs."""
        if self._control is not None:
            await self._control.stop()
        for relay in self._relays.values():
            await relay.stop()
        for spare in self._spares.values():
            await spare.stop()
        for stun in self._stun.values():
            await stun.stop()
        await self._web.stop()

    # --- control --------------------------------------------------------------

    def _running(self) -> ControlServer:
        if self._control is None:
            msg = "control is stopped"
            raise Refused(msg)
        return self._control

    def _node_id(self, name: str) -> int:
        for record in self._running().store.records.values():
            if record.name == name:
                return record.id
        msg = f"control knows no node {name}"
        raise Refused(msg)

    async def do_nodes(self) -> list[dict[str, object]]:
        """All nodes, as ``ControlServer.nodes`` shows them."""
        return self._running().nodes()

    async def do_start_control(self, fault: str = "", skew: float = 0.0) -> None:
        """Start control with what the one before knew, and with a fault if one is named.

        ``skew``: how many hours its clock is ahead.
        """
        if self._control is not None:
            msg = "control is running"
            raise Refused(msg)

        def wall() -> datetime:
            return clock.wall() + timedelta(hours=skew)

        kind = VandalControl if fault else AilingControl
        control = kind(self._settings, now=clock.now, wall=wall, random_bytes=os.urandom)
        if isinstance(control, VandalControl):
            control.fault = fault
        if self._saved is not None:
            control.restore(self._saved)
        await control.start(self._config.address, self._config.control_port)
        self._control = control

    async def do_stop_control(self) -> None:
        """Cut all connections and stop listening, as a crash would; nodes are remembered."""
        control = self._running()
        self._saved = control.snapshot()
        self._control = None
        await control.stop()

    async def do_restart_control(
        self, skew: float = 0.0, forget: bool = False, new_key: bool = False
    ) -> None:
        """Stop and start; ``forget``: without its database, ``new_key``: with another Noise key."""
        await self.do_stop_control()
        if forget:
            self._saved = None
        if new_key:
            self._settings.server_key = MachinePrivate.from_random(os.urandom(32))
        await self.do_start_control(skew=skew)

    async def do_ail(self, faults: dict[str, str]) -> None:
        """Give each of these hosts, by address, a fault of its own; all others are served well."""
        self._ailing().ail(faults)

    async def do_asked(self) -> dict[str, int]:
        """How often hosts, by address, have asked since their faults began."""
        return self._ailing().asked

    def _ailing(self) -> AilingControl:
        control = self._running()
        if not isinstance(control, AilingControl):
            msg = "this control server has a fault for all"
            raise Refused(msg)
        return control

    async def do_expire(self, name: str, left: float = 0.0) -> None:
        """End the life of a node's key, now or ``left`` seconds later."""
        self._running().expire_key(self._node_id(name), left)

    async def do_push(self, name: str, message: dict[str, Any]) -> None:
        """Send a node any map message (JSON of tailcfg)."""
        parsed = decode_untrusted(json.dumps(message).encode(), MapResponse)
        self._running().push(self._node_id(name), parsed)

    async def do_set_approval(self, needed: bool) -> None:
        """Whether a person must approve each new node."""
        self._settings.approval = needed

    async def do_authorize(self, name: str) -> None:
        """Approve a node that waits for it."""
        self._running().authorize(self._node_id(name))

    async def do_set_attributes(self, name: str, attributes: list[str]) -> None:
        """Give a node these attributes and no others."""
        self._running().set_attributes(self._node_id(name), tuple(attributes))

    async def do_add_wireguard(self, name: str, key: str, endpoints: list[str]) -> str:
        """Add a peer that speaks plain WireGuard (``key`` in hex); its address in the tailnet."""
        public = NodePublic(bytes.fromhex(key))
        return self._running().add_wireguard(name, public, endpoints)

    async def do_forget_logins(self, gone: bool = False) -> None:
        """Lose all logins that are under way; ``gone``: they are answered with 410."""
        await self._running().forget_logins(gone=gone)

    async def do_c2n(self, name: str, request: str) -> str:
        """Let a node answer an HTTP/1.1 request; its raw response."""
        async with asyncio.timeout(8):
            answer = await self._running().c2n(self._node_id(name), request.encode())
        return answer.decode("utf-8", "replace")

    async def do_delete(self, name: str, late: bool = False) -> None:
        """Forget a node; ``late``: its stream stays open, as at Headscale."""
        self._running().delete(self._node_id(name), late=late)

    async def do_set_resume(self, offered: bool) -> None:
        """Whether streams may go on with the session of the one before."""
        self._settings.resume = offered

    async def do_set_collect_services(self, wanted: bool) -> None:
        """Whether nodes are asked who listens on their machines."""
        self._running().collect_services(wanted=wanted)

    async def do_set_names(self, dns: dict[str, Any]) -> None:
        """What nodes are told of names (JSON of tailcfg) from their next stream on."""
        self._settings.dns = decode_untrusted(json.dumps(dns).encode(), DNSConfig)

    async def do_drop_streams(self) -> None:
        """Cut all connections; control stays."""
        self._running().drop_streams()

    async def do_dns(self) -> dict[str, str]:
        """TXT records that nodes have asked for."""
        return self._running().dns

    async def do_set_filter(self, rules: list[Any]) -> None:
        """Give every node these packet filter rules (JSON of tailcfg)."""
        parsed = decode_untrusted(json.dumps(rules).encode(), tuple[FilterRule, ...])
        self._running().set_packet_filter(parsed)

    async def do_ping(self, name: str, types: str, ip: str) -> dict[str, object]:
        """Let a node ping a peer; what it reports."""
        async with asyncio.timeout(8):
            return await self._running().ping(self._node_id(name), types, ip)

    async def do_pings(self, name: str, types: str, ip: str) -> list[dict[str, object]]:
        """Let a node ping a peer with several types; what it reports."""
        async with asyncio.timeout(8):
            return await self._running().pings(self._node_id(name), types, ip)

    async def do_alive(self, name: str, noise: bool) -> None:
        """Ask a node for a sign of life and wait for it."""
        async with asyncio.timeout(8):
            await self._running().is_alive(self._node_id(name), noise=noise)

    # --- the network ----------------------------------------------------------

    async def do_set_stun(self, region: int, delay: float = 0.0, silent: bool = False) -> None:
        """How far a region's STUN server seems to be [s], or that it says nothing."""
        self._stun[region].delay, self._stun[region].silent = delay, silent

    async def do_set_portal(self, captive: bool) -> None:
        """Whether somebody else answers on port 80."""
        self._web.captive = captive

    # --- relays ---------------------------------------------------------------

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

    async def do_mischief(self) -> int:
        """How often servers with a fault have misbehaved, since they started."""
        all_of_them = [self._control, *self._relays.values()]
        return sum(
            each.done for each in all_of_them if isinstance(each, VandalControl | VandalRelay)
        )

    # --- the admin socket -----------------------------------------------------

    async def answer(self, line: bytes) -> bytes:
        """One request, one answer, both a line of JSON."""
        try:
            request = json.loads(line)
            name = "do_" + str(request.pop("do")).replace("-", "_")
            reply = {"ok": await getattr(self, name)(**request)}
        except _REFUSALS as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        return msgspec.json.encode(reply) + b"\n"

    async def serve_admin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            writer.write(await self.answer(await reader.readline()))
            await writer.drain()
        except OSError as error:
            log.info("admin connection lost: %s", error)
        finally:
            writer.close()


async def serve(config: ServersConfig) -> None:
    """Run until SIGTERM."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    servers = Servers(config)
    try:
        await servers.start()
        path = Path(config.directory) / "admin.sock"
        admin = await asyncio.start_unix_server(servers.serve_admin, path, limit=MAX_LINE)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await told.wait()
        admin.close()
    finally:
        await servers.stop()


def main() -> None:
    """Read the configuration and serve."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s"
    )
    asyncio.run(serve(ServersConfig.from_json(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
