"""A session and the transport it speaks through."""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Protocol

from tailnet.agent.addr import IPAddress, unmap
from tailnet.agent.derp.session import Batch, Event, Session
from tailnet.agent.errors import RemoteProtocolError

HIGH_WATER = 1 << 16  # bytes in the transport from which on packets wait in the backlog
UNSENT = 1 << 17  # bytes in the kernel from which on it takes no more; it would take megabytes


class Owner(Protocol):
    """Whom a connection reports to."""

    def handle_event(self, connection: "Connection", event: Event) -> None:
        """The session has something to say."""

    def handle_batches(self, connection: "Connection", batches: list[Batch]) -> None:
        """Packets came; events of the same read were reported before."""

    def handle_end(self, connection: "Connection", reason: str) -> None:
        """It is over; reported at most once, and not after :meth:`Connection.close`."""


class Connection(asyncio.Protocol):
    """Silent until :meth:`attach`: the relay's certificate may have to be judged first.

    Attributes:
        region: whose relay this is.
        session: the protocol's state.
    """

    def __init__(
        self,
        region: int,
        session: Session,
        owner: Owner,
        *,
        now: Callable[[], float],
    ) -> None:
        self.region = region
        self.session = session
        self._owner: Owner | None = owner
        self._now = now
        self._transport: asyncio.Transport | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """Begin to speak.

        Raises:
            OSError: it is closed already.
        """
        if transport.is_closing():
            msg = "the relay closed the connection"
            raise OSError(msg)
        transport.set_write_buffer_limits(HIGH_WATER)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self._transport = transport
        self.pump()

    def own_address(self) -> IPAddress | None:
        """Our end's address."""
        name = self._transport and self._transport.get_extra_info("sockname")
        return unmap(ip_address(name[0].partition("%")[0])) if name else None

    def pump(self) -> None:
        """Write what the session has, then report its events."""
        self.flush()
        while self._owner is not None and (event := self.session.poll_event()) is not None:
            self._owner.handle_event(self, event)

    def flush(self) -> None:
        """Write what the session has."""
        if self._transport is None:
            return
        if (data := self.session.poll_transmit(self._now())) is not None:
            self._transport.write(data)

    def handle_timeout(self, now: float) -> None:
        """Check the session's deadlines, and write what their passing allows."""
        try:
            self.session.handle_timeout(now)
        except RemoteProtocolError as error:
            self.end(str(error))
        else:
            self.flush()

    def close(self) -> None:
        """Hang up; nothing more is reported."""
        self._owner = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def end(self, reason: str) -> None:
        """Hang up and report it."""
        owner = self._owner
        self.close()
        if owner is not None:
            owner.handle_end(self, reason)

    # --- asyncio.Protocol --------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes from the relay; before :meth:`attach` there can be no honest ones."""
        if self._owner is None or self._transport is None:
            return
        try:
            batches = self.session.handle_data(data, self._now())
        except RemoteProtocolError as error:
            self.end(str(error))
            return
        self.pump()
        if batches and self._owner is not None:
            self._owner.handle_batches(self, batches)

    def pause_writing(self) -> None:
        """The socket is full."""
        if self._transport is None:  # the region's queue has a new owner
            return
        self.session.handle_blocked(blocked=True)

    def resume_writing(self) -> None:
        """The socket takes data again."""
        if self._transport is None:
            return
        self.session.handle_blocked(blocked=False)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream ended."""
        self.end(str(exc or "the relay closed the connection"))
