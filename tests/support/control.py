"""A control server and clients on loopback."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from integration.lab.control import AuthKey, ControlServer, ControlSettings
from integration.lab.control_faults import FaultyControl

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort
from tailnet.agent.control.aio import ControlClient, ControlConfig
from tailnet.agent.control.ask import Answers
from tailnet.agent.control.events import ControlEvent, NetmapChanged
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.crypto.x25519 import lock_private, public_of
from tailnet.agent.dates import Calendar
from tailnet.agent.keys import DiscoPrivate, MachinePrivate
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion
from tailnet.agent.tailcfg.node import Hostinfo, NetInfo

AUTH_KEY = "tskey-auth-lab"
E = TypeVar("E")
DERP_MAP = DERPMap(
    regions={
        900: DERPRegion(
            region_id=900,
            region_code="lab",
            nodes=(DERPNode(name="900a", region_id=900, host_name="127.0.0.1"),),
        )
    }
)


def settings() -> ControlSettings:
    """A server that takes ``AUTH_KEY`` and notices departures at once."""
    return ControlSettings(
        server_key=MachinePrivate.from_random(os.urandom(32)),
        auth_keys={AUTH_KEY: AuthKey(), "once": AuthKey(reusable=False)},
        derp_map=DERP_MAP,
        offline_grace=0.0,
        ephemeral_grace=0.0,
    )


def new_server(of: ControlSettings) -> ControlServer:
    """A server that is not started."""
    return ControlServer(of, now=clock.now, wall=clock.wall, random_bytes=os.urandom)


@asynccontextmanager
async def faulty(of: ControlSettings) -> AsyncIterator[FaultyControl]:
    """A server that goes wrong as the test says, on a free port of loopback."""
    server = FaultyControl(of, now=clock.now, wall=clock.wall, random_bytes=os.urandom)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def serving(of: ControlSettings) -> AsyncIterator[ControlServer]:
    """A server on a free port of loopback."""
    server = new_server(of)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


def config(url: str, auth_key: str = AUTH_KEY) -> ControlConfig:
    """A fresh machine."""
    return ControlConfig(
        server_url=url,
        machine_key=MachinePrivate.from_random(os.urandom(32)),
        node_key=None,
        old_node_key=None,
        lock_key=public_of(lock_private(os.urandom(32))),
        disco_key=public_of(DiscoPrivate.from_random(os.urandom(32))),
        auth_key=auth_key,
    )


def hostinfo(name: str, home: int = 0) -> Hostinfo:
    """What a node says of itself."""
    return Hostinfo(
        backend_log_id="0" * 64,
        os="linux",
        hostname=name,
        net_info=NetInfo(preferred_derp=home) if home else None,
    )


@dataclass
class Member:
    """A running client and everything it said."""

    client: ControlClient = field(init=False)
    task: asyncio.Task[None] = field(init=False)
    calendar: Calendar = field(default_factory=lambda: Calendar(clock.now, clock.wall))
    marked: list[socket.socket] = field(default_factory=list)
    events: list[ControlEvent] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event: ControlEvent) -> None:
        """Called by the client."""
        self.events.append(event)
        self._news.set()

    @property
    def netmap(self) -> NetworkMap:
        """The newest map."""
        return [e for e in self.events if isinstance(e, NetmapChanged)][-1].netmap

    async def until(self, kind: type[E], when: Callable[[E], bool] = lambda _: True) -> E:
        """Wait for an event, past ones included."""
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and when(event):
                        return event
                self._news.clear()
                await self._news.wait()

    async def sees(self, condition: Callable[[NetworkMap], bool]) -> NetworkMap:
        """Wait for a map."""
        return (await self.until(NetmapChanged, lambda e: condition(e.netmap))).netmap


@asynccontextmanager
async def member(
    of: ControlConfig, name: str = "box", port: int = 41641, answers: Answers | None = None
) -> AsyncIterator[Member]:
    """A client that runs."""
    one = Member()
    one.client = client = ControlClient(
        of,
        on_event=one.hear,
        mark=one.marked.append,
        now=clock.now,
        wall=clock.wall,
        calendar=one.calendar,
        random_bytes=os.urandom,
        answers=answers,
    )
    client.update(hostinfo(name), ((AddrPort.parse(f"127.0.0.1:{port}"), 1),))
    async with asyncio.TaskGroup() as group:
        task = one.task = group.create_task(client.run())
        try:
            yield one
        finally:
            task.cancel()


def make_certificate(directory: Path, days: int = 2) -> tuple[Path, Path, Path]:
    """A CA and a certificate for 127.0.0.1 under it: CA, certificate and key files."""
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    leaf, leaf_key, request = (directory / n for n in ("leaf.pem", "leaf.key", "leaf.csr"))
    extensions = directory / "san.cnf"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    sign = ["openssl", "x509", "-req", "-CA", ca, "-CAkey", ca_key, "-CAcreateserial"]
    run = [
        [*new, "-x509", "-keyout", ca_key, "-out", ca, "-subj", "/CN=test ca", "-days", "2"],
        [*new, "-keyout", leaf_key, "-out", request, "-subj", "/CN=test"],
        [*sign, "-in", request, "-out", leaf, "-days", str(days), "-extfile", extensions],
    ]
    for command in run:
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return ca, leaf, leaf_key
