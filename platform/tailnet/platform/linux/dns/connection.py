"""A connection to the system's D-Bus, loaded only where there is one.

Source: D-Bus Specification, "Message Bus Messages".
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, DBusError, InvalidAddressError

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.dns.errors import BusError

TIMEOUT = 1.0  # seconds for one answer
_DBUS, _DBUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"


class Connection:
    """A :class:`~tailnet.platform.linux.dns.bus.Bus`."""

    def __init__(self, connection: MessageBus) -> None:
        self._connection = connection

    async def call(  # noqa: PLR0913, PLR0917 - what names a method
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
    ) -> list[Any]:
        """See :meth:`Bus.call`; an answer takes at most ``TIMEOUT``."""
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                reply = await self._connection.call(message)
        except TimeoutError:
            line = f"{destination} does not answer {member} on the system bus"
            raise PlatformError(line) from None
        except (DBusError, EOFError, OSError) as error:
            line = f"{member} of {destination}: {error}"
            raise PlatformError(line) from error
        if reply.message_type is MessageType.ERROR:
            text = str(reply.body[0]) if reply.body else ""
            line = f"{destination} refused {member}: {text or reply.error_name}"
            raise BusError(reply.error_name or "", line)
        return list(reply.body)

    async def owned(self, name: str) -> bool:
        """See :meth:`Bus.owned`."""
        (found,) = await self.call(_DBUS, _DBUS_PATH, _DBUS, "NameHasOwner", "s", [name])
        return bool(found)

    async def owners(self, names: Iterable[str]) -> AsyncIterator[tuple[str, bool]]:
        """See :meth:`Bus.owners`."""
        wanted = frozenset(names)
        news: asyncio.Queue[tuple[str, bool] | None] = asyncio.Queue(64)

        def on_message(message: Message) -> None:
            if message.member == "NameOwnerChanged" and message.sender == _DBUS:
                name, _, new = message.body
                if name in wanted:
                    with contextlib.suppress(asyncio.QueueFull):
                        news.put_nowait((name, bool(new)))

        async def until_gone() -> None:
            await _end(self._connection)
            await news.put(None)

        self._connection.add_message_handler(on_message)
        for name in wanted:
            rule = (
                f"type='signal',sender='{_DBUS}',path='{_DBUS_PATH}',interface='{_DBUS}',"
                f"member='NameOwnerChanged',arg0='{name}'"
            )
            await self.call(_DBUS, _DBUS_PATH, _DBUS, "AddMatch", "s", [rule])
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(until_gone())
            try:
                while (item := await news.get()) is not None:
                    yield item
            finally:
                gone.cancel()
                self._connection.remove_message_handler(on_message)


@asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    """See :func:`tailnet.platform.linux.dns.bus.open_bus`."""
    try:
        connection = MessageBus(bus_type=BusType.SYSTEM)
        async with asyncio.timeout(TIMEOUT):
            await connection.connect()
    except (OSError, TimeoutError, EOFError, AuthError, DBusError, InvalidAddressError) as error:
        line = f"there is no system bus: {str(error) or 'no answer'}"
        raise PlatformError(line) from error
    try:
        yield Connection(connection)
    finally:
        connection.disconnect()
        await _end(connection)


async def _end(connection: MessageBus) -> None:
    """Until it has ended, in whatever way."""
    with contextlib.suppress(OSError, EOFError, DBusError):
        await connection.wait_for_disconnect()  # type: ignore[no-untyped-call]
