"""The shell that keeps one connection for all requests, and replaces it when it takes no more."""

import asyncio
from collections.abc import Collection

from tailnet.agent.addr import IPAddress
from tailnet.agent.control.conn.aio import Connection
from tailnet.agent.control.dial.aio import Dialer
from tailnet.agent.keys import MachinePrivate, MachinePublic


class Link:
    """The open connection, and those that only finish what they have begun."""

    def __init__(self, dialer: Dialer, machine_key: MachinePrivate) -> None:
        self._dialer = dialer
        self._machine_key = machine_key
        self._connection: Connection | None = None
        self._retired: list[Connection] = []
        self._connecting = asyncio.Lock()
        self._server_key: MachinePublic | None = None

    async def connect(self) -> Connection:
        """A connection that takes requests; a new one only if there is none.

        Raises:
            UserError: the server cannot be reached, or is none.
        """
        async with self._connecting:
            if self._connection is not None and self._connection.usable:
                return self._connection
            await self._retire()
            server_key, self._server_key = self._server_key, None
            if server_key is None:
                server_key = await self._dialer.fetch_key()
            self._connection = await self._dialer.connect(self._machine_key, server_key)
            self._server_key = server_key  # it is the right one
            return self._connection

    async def _retire(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.retire()
            self._retired.append(connection)
        for old in [old for old in self._retired if not old.alive]:
            self._retired.remove(old)
            await old.aclose()

    def network_changed(self, addresses: Collection[IPAddress]) -> None:
        """End what is connected from other addresses; ask the rest whether it still works."""
        for connection in self._all():
            if connection.own_address() in addresses:
                connection.check()
            else:
                connection.close("the network changed")

    def _all(self) -> list[Connection]:
        return [*self._retired, *([self._connection] if self._connection else [])]

    def drop(self, reason: str) -> None:
        """End everything that is open; every request fails with ``reason``."""
        for connection in self._all():
            connection.close(reason)

    async def close(self) -> None:
        """End everything, and wait until it has ended."""
        self.drop("closed")
        connections = self._all()
        self._connection, self._retired = None, []
        for connection in connections:
            await connection.aclose()
