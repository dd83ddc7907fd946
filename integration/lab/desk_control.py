"""What the lab can ask of its control server; each ``do_*`` method is one thing.

Control can be stopped, started again with what it knew, and replaced by one with a fault.
"""

import asyncio
import json
import os
from datetime import datetime, timedelta
from typing import Any

from integration.lab.admin import Refused
from integration.lab.config import (
    AUTH_KEY,
    EPHEMERAL_KEY,
    EXPIRED_KEY,
    ONCE_KEY,
    TAGGED_KEY,
    ServersConfig,
)
from integration.lab.control import AuthKey, ControlServer, ControlSettings
from integration.lab.control_ailing import AilingControl
from integration.lab.vandal import VandalControl

from tailnet.agent import clock
from tailnet.agent.keys import MachinePrivate, NodePublic
from tailnet.agent.tailcfg.codec import decode_untrusted
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.mapping import MapResponse


class ControlDesk:
    """The control server of one lab."""

    def __init__(self, config: ServersConfig, derp_map: DERPMap) -> None:
        self._config = config
        self._settings = ControlSettings(
            server_key=MachinePrivate.from_random(os.urandom(32)),
            auth_keys={
                AUTH_KEY: AuthKey(),
                EPHEMERAL_KEY: AuthKey(ephemeral=True),
                EXPIRED_KEY: AuthKey(expired=True),
                ONCE_KEY: AuthKey(reusable=False),
                TAGGED_KEY: AuthKey(tags=("tag:lab",)),
            },
            derp_map=derp_map,
            domain=config.domain,
        )
        self._control: ControlServer | None = None
        self._saved: bytes | None = None

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._control is not None:
            await self._control.stop()

    @property
    def mischief(self) -> int:
        """How often it has misbehaved."""
        return self._control.done if isinstance(self._control, VandalControl) else 0

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

    async def do_add_wireguard(
        self, name: str, key: str, endpoints: list[str], routes: list[str]
    ) -> str:
        """Add a peer that speaks plain WireGuard (``key`` in hex); its address in the tailnet."""
        public = NodePublic(bytes.fromhex(key))
        return self._running().add_wireguard(name, public, endpoints, routes)

    async def do_known_as(self, name: str, addresses: list[str]) -> None:
        """A peer knows every other node by these addresses, one of each family, not by its own."""
        self._running().known_as(self._node_id(name), addresses)

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
