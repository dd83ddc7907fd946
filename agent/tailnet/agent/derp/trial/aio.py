"""A connection to one relay that is closed as soon as the relay has accepted it."""

import asyncio
from collections import Counter
from collections.abc import Callable

from msgspec.structs import replace

from tailnet.agent.derp.backlog import Backlog
from tailnet.agent.derp.connection.aio import Connection
from tailnet.agent.derp.dial.aio import Dialer, reason
from tailnet.agent.derp.session import CONNECT_TIMEOUT, Batch, Event, Session, Up
from tailnet.agent.errors import BadPacket, RemoteProtocolError
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.tailcfg.derpmap import DERPNode, DERPRegion


class _Greeting:
    """An ``Owner`` that waits for the relay's welcome."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def handle_event(self, _: Connection, event: Event) -> None:
        """Only one matters."""
        if isinstance(event, Up) and not self.over.done():
            self.over.set_result(None)

    def handle_batches(self, _: Connection, __: list[Batch]) -> None:
        """Nobody writes to a node that exists for a second."""

    def handle_end(self, _: Connection, reason: str) -> None:
        """The relay refused us, or is none."""
        if not self.over.done():
            self.over.set_exception(OSError(reason))


async def greet(
    dialer: Dialer,
    node: DERPNode,
    version: int,
    *,
    now: Callable[[], float],
    random_bytes: Callable[[int], bytes],
) -> NodePublic:
    """Be accepted by a relay, under a key that nobody knows; the relay's key.

    Args:
        dialer: how relays are reached.
        node: the relay.
        version: of IP.
        now: seconds.
        random_bytes: that many of them.

    Raises:
        OSError: it cannot be; the text says how far it went.
    """
    only = replace(node, ipv6="none") if version == 4 else replace(node, ipv4="none")
    greeting = _Greeting()
    stage = "TCP"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, sock, request = await dialer.connect(DERPRegion(nodes=(only,)))
            session = Session(
                NodePrivate.from_random(random_bytes(32)),
                Backlog(Counter()),
                request=request,
                started=now(),
                random_bytes=random_bytes,
            )
            connection = Connection(node.region_id, session, greeting, now=now)
            try:
                stage = "TLS"
                connection.attach(await dialer.secure(sock, only, connection))
                stage = "DERP"
                await greeting.over
            finally:
                connection.close()
    except (OSError, ValueError, BadPacket, RemoteProtocolError) as error:
        msg = f"{stage}: {reason(error)}"
        raise OSError(msg) from None
    if session.server is None:
        msg = "DERP: no key"
        raise OSError(msg)
    return session.server
