"""The system's D-Bus, as far as resolvers need it."""

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from tailnet.platform.interface import PlatformError

SOCKET = Path("/var/run/dbus/system_bus_socket")  # D-Bus Specification, "System message bus"


class Bus(Protocol):
    """A connection."""

    async def call(  # noqa: PLR0913, PLR0917 - what names a method
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
    ) -> list[Any]:
        """Call a method; its answer.

        Raises:
            BusError: the other side refused.
            PlatformError: no answer in time.
        """

    async def owned(self, name: str) -> bool:
        """Whether somebody has this name now."""

    def owners(self, names: Iterable[str]) -> AsyncIterator[tuple[str, bool]]:
        """Whenever one of ``names`` comes (true) or goes, until the connection ends."""


@asynccontextmanager
async def open_bus() -> AsyncIterator[Bus]:
    """Connect to the system bus (``DBUS_SYSTEM_BUS_ADDRESS``).

    Raises:
        PlatformError: there is none.
    """
    if not _likely():
        msg = f"there is no system bus: no {SOCKET}"
        raise PlatformError(msg)
    from tailnet.platform.linux.dns.connection import connected  # noqa: PLC0415 - 3 MB

    async with connected() as bus:
        yield bus


def _likely() -> bool:
    return bool(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")) or SOCKET.exists()
