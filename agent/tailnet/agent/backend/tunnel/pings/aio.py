"""Pings of a peer by each way there is: disco, TSMP through the tunnel, ICMP by the kernel."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import h11

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.datapath import tsmp
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.echo.aio import echo
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.aio import Magicsock
from tailnet.agent.magicsock.drain.aio import PingReply

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def by_kernel(to: AddrPort) -> Streams:
    """A connection of the kernel; raises ``OSError``."""
    return await asyncio.open_connection(str(to.ip), to.port)


class TsmpPong(NamedTuple):
    """A peer's daemon answered; ``peer_api``: port of its PeerAPI, 0 if it has none."""

    latency: float
    peer_api: int


class Pings:
    """Asks, and waits for what comes back.

    Attributes:
        dial: makes a connection into the tailnet, or raises ``OSError``.
    """

    dial: Callable[[AddrPort], Awaitable[Streams]]

    def __init__(
        self,
        sock: Magicsock,
        datapath: Datapath,
        *,
        userspace: bool,
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """``userspace``: there is no device for the kernel to ping through."""
        self._sock = sock
        self._datapath = datapath
        self._userspace = userspace
        self._now = now
        self._random_bytes = random_bytes
        self.dial = by_kernel
        self._pongs: dict[tuple[PeerId, bytes], asyncio.Future[TsmpPong]] = {}

    async def by_disco(self, peer: PeerId, wait: float, size: int) -> PingReply | None:
        """A disco ping by every path known; ``None`` when nothing came back in time."""
        return await self._sock.ping(peer, wait, size)

    async def by_tsmp(
        self, peer: PeerId, src: IPAddress, dst: IPAddress, wait: float
    ) -> TsmpPong | None:
        """Ask a peer's daemon through the tunnel; ``None`` without answer.

        Args:
            peer: whom.
            src: our address, of the family of ``dst``.
            dst: the peer's.
            wait: seconds.
        """
        data = self._random_bytes(tsmp.PING_DATA_LEN)
        pong: asyncio.Future[TsmpPong] = asyncio.get_running_loop().create_future()
        self._pongs[peer, data] = pong
        began = self._now()
        try:
            async with asyncio.timeout(wait):
                self._datapath.send_plain(peer, [tsmp.encode_ping(src, dst, data)])
                at, peer_api = await pong
                return TsmpPong(at - began, peer_api)
        except TimeoutError:
            return None
        finally:
            del self._pongs[peer, data]

    async def by_icmp(self, src: IPAddress, dst: IPAddress, wait: float) -> float | None:
        """Ask a peer's host by an echo request of our kernel; the round trip [s], or ``None``.

        Raises:
            OSError: this system cannot; the text says why.
        """
        if self._userspace:
            msg = "ICMP ping needs a tunnel device, and this node has none"
            raise OSError(msg)
        return await echo(src, dst, wait, now=self._now, random_bytes=self._random_bytes)

    async def by_peer_api(self, at: AddrPort, wait: float) -> float | None:
        """Ask a peer's PeerAPI for nothing; how long that took [s], ``None`` without answer.

        Raises:
            OSError: it refuses; the text says why.
        """
        began = self._now()
        try:
            async with asyncio.timeout(wait):
                status = await _head(*await self.dial(at), at)
        except TimeoutError:
            return None
        if status != 200:
            msg = f"HTTP status {status}"
            raise OSError(msg)
        return self._now() - began

    def handle_pong(self, peer: PeerId, pong: tsmp.Pong) -> None:
        """A peer's daemon answers."""
        waiting = self._pongs.get((peer, pong.data))
        if waiting is not None and not waiting.done():
            waiting.set_result(TsmpPong(self._now(), pong.peerapi_port))


async def _head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at: AddrPort) -> int:
    """Status of an HTTP ``HEAD``; raises ``OSError``."""
    try:
        http = h11.Connection(h11.CLIENT)
        headers = [("Host", str(at)), ("Connection", "close")]
        writer.write(http.send(h11.Request(method="HEAD", target="/", headers=headers)) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(1 << 12))
            elif isinstance(event, h11.Response):
                return event.status_code
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionResetError
    except h11.RemoteProtocolError as error:
        msg = f"not an HTTP server: {error}"
        raise OSError(msg) from None
    finally:
        writer.close()
