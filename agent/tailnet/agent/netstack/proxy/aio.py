"""The proxies' listeners: SOCKS5 and HTTP, on one port if wanted, where the first byte decides.

Source: tailscale net/proxymux/mux.go.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import UserError
from tailnet.agent.netstack.dialer.aio import Dialer
from tailnet.agent.netstack.http_proxy import HttpProxy
from tailnet.agent.netstack.interface import (
    Associate,
    Connect,
    DialError,
    Failure,
    ProxyMachine,
)
from tailnet.agent.netstack.proxy.association.aio import Association
from tailnet.agent.netstack.socks5 import VERSION, Socks5
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.proxy")

SOCKS5, HTTP = "SOCKS5", "HTTP"
PATIENCE = 30.0  # seconds for a client to say what it wants
MAX_CLIENTS = 1024  # that have not said it yet, or wait for a connection
READ = 16 << 10


class ProxyServer:
    """Serves from ``start`` to ``close``.

    Args:
        listeners: which protocols (``SOCKS5``, ``HTTP``) are spoken at which address.
        dialer: makes the connections.
    """

    def __init__(self, listeners: Mapping[AddrPort, frozenset[str]], dialer: Dialer) -> None:
        self._wanted = listeners
        self._dialer = dialer
        self._tasks = Tasks()
        self._listeners: list[socket.socket] = []
        self._clients = 0

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            UserError: the system refuses.
        """
        for address, protocols in self._wanted.items():
            family = socket.AF_INET if address.ip.version == 4 else socket.AF_INET6
            listener = socket.socket(family, socket.SOCK_STREAM)
            self._listeners.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            what = " and ".join(sorted(protocols))
            try:
                listener.bind((str(address.ip), address.port))
                listener.listen(1024)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                msg = f"cannot listen for {what} on {address}: {reason}; choose another address"
                raise UserError(msg) from None
            log.info("%s proxy on %s", what, AddrPort.of(*listener.getsockname()[:2]))
            _ = self._tasks.start(f"proxy {address}", self._accept(listener, protocols))

    async def close(self) -> None:
        """Stop listening; connections that carry bytes are the dialer's."""
        await self._tasks.close()
        for listener in self._listeners:
            listener.close()

    async def _accept(self, listener: socket.socket, protocols: frozenset[str]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("cannot accept a proxy's client: %s", error)
                await asyncio.sleep(1)
                continue
            if self._clients >= MAX_CLIENTS:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients += 1
            _ = self._tasks.start("proxy client", self._serve(client, protocols))

    async def _serve(self, client: socket.socket, protocols: frozenset[str]) -> None:
        try:
            with client, contextlib.suppress(OSError):
                machine, wanted = await self._listen_to(client, protocols)
                match wanted:
                    case Connect(host, port) if machine is not None:
                        await self._connect(client, machine, host, port)
                    case Associate() if machine is not None:
                        await self._associate(client, machine)
        finally:
            self._clients -= 1

    async def _listen_to(
        self, client: socket.socket, protocols: frozenset[str]
    ) -> tuple[ProxyMachine | None, Connect | Associate | None]:
        """Until the client has said what it wants, or has to go."""
        loop = asyncio.get_running_loop()
        machine: ProxyMachine | None = None
        async with asyncio.timeout(PATIENCE):
            while data := await loop.sock_recv(client, READ):
                if machine is None:
                    machine = _machine(data[0], protocols)
                    if machine is None:
                        break
                machine.handle_data(data)
                await _transmit(client, machine)
                wanted = machine.poll_event()
                if wanted is not None or machine.closed:
                    return machine, wanted
        return None, None

    async def _connect(
        self, client: socket.socket, machine: ProxyMachine, host: str, port: int
    ) -> None:
        try:
            connection = await self._dialer.connect(host, port)
        except DialError as error:
            log.debug("proxy: %s", error)
            machine.handle_failed(error)
            await _transmit(client, machine)
            return
        machine.handle_connected(connection.local)
        with contextlib.ExitStack() as failed:
            failed.callback(connection.abort)
            await _transmit(client, machine)
            failed.pop_all()
        connection.join(client.detach(), machine.early)

    async def _associate(self, client: socket.socket, machine: ProxyMachine) -> None:
        here, there = (
            AddrPort.of(*name[:2]) for name in (client.getsockname(), client.getpeername())
        )
        try:
            association = Association(self._dialer, here.ip, there.ip)
        except OSError:
            machine.handle_failed(DialError(Failure.BUSY, "UDP"))
            await _transmit(client, machine)
            return
        async with association:
            machine.handle_connected(association.bound)
            await _transmit(client, machine)
            while await asyncio.get_running_loop().sock_recv(client, READ):
                pass  # it lasts as long as the connection it came by


def _machine(first: int, protocols: frozenset[str]) -> ProxyMachine | None:
    if first == VERSION and SOCKS5 in protocols:
        return Socks5()
    if HTTP in protocols:
        return HttpProxy()
    return None


async def _transmit(client: socket.socket, machine: ProxyMachine) -> None:
    loop = asyncio.get_running_loop()
    while (data := machine.poll_transmit()) is not None:
        async with asyncio.timeout(PATIENCE):
            await loop.sock_sendall(client, data)
