"""One SOCKS5 client's datagrams, to any number of targets in the tailnet and outside."""

import asyncio
import contextlib
import socket
from typing import Self

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.dialer.aio import Dialer
from tailnet.agent.netstack.interface import DialError
from tailnet.agent.netstack.socks5 import Target, encode_datagram, parse_datagram_untrusted
from tailnet.agent.tasks import Tasks

WAITING = 256  # datagrams that wait for a name to be resolved
MAX_NAMES = 256
LARGEST = 65_535
READS = 64


class Association:
    """Use it as a context; it ends with it.

    Args:
        dialer: finds names, and knows what is in the tailnet.
        here: address to wait for datagrams on.
        client: the only address they are taken from.
    """

    def __init__(self, dialer: Dialer, here: IPAddress, client: IPAddress) -> None:
        self._dialer = dialer
        self._client_ip = client
        self._client: AddrPort | None = None
        self._tasks = Tasks()
        self._names: dict[Target, AddrPort] = {}
        self._inside: dict[IPAddress, AddrPort] = {}
        self._outside: dict[int, socket.socket] = {}
        self._waiting: asyncio.Queue[tuple[Target, bytes]] = asyncio.Queue(WAITING)
        self._sock = _udp(here.version)
        try:
            self._sock.bind((str(here), 0))
        except OSError:
            self._sock.close()
            raise
        self.bound = AddrPort.of(*self._sock.getsockname()[:2])
        self.dropped = 0

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._sock, self._on_client)
        _ = self._tasks.start("socks5 datagrams", self._resolve())
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        await self._tasks.close()
        for sock in (self._sock, *self._outside.values()):
            loop.remove_reader(sock)
            sock.close()
        datagrams = self._dialer.datagrams
        for local in self._inside.values():
            if datagrams is not None:
                datagrams.release(local)

    def _on_client(self) -> None:
        for _ in range(READS):
            try:
                data, source = self._sock.recvfrom(LARGEST)
            except OSError:
                return
            sender = AddrPort.of(*source[:2])
            if sender.ip != self._client_ip or (self._client or sender) != sender:
                self.dropped += 1
                continue
            self._client = sender
            try:
                target, payload = parse_datagram_untrusted(data)
            except BadPacket:
                self.dropped += 1
                continue
            if (known := self._names.get(target)) is not None:
                self._send(known, payload)
                continue
            try:
                self._waiting.put_nowait((target, payload))
            except asyncio.QueueFull:
                self.dropped += 1

    async def _resolve(self) -> None:
        while True:
            target, payload = await self._waiting.get()
            known = self._names.get(target)
            if known is None:
                try:
                    [known, *_] = await self._dialer.resolve(*target, socket.SOCK_DGRAM)
                except (DialError, BadPacket, ValueError):
                    self.dropped += 1
                    continue
                if len(self._names) >= MAX_NAMES:
                    self._names.clear()
                self._names[target] = known
            self._send(known, payload)

    def _send(self, target: AddrPort, payload: bytes) -> None:
        source, datagrams = self._dialer.source(target.ip), self._dialer.datagrams
        if source is not None and datagrams is not None:
            local = self._inside.get(source) or datagrams.open(source, self._answer)
            if local is not None:
                self._inside[source] = local
                datagrams.send(local, target, payload)
            return
        if self._dialer.is_stray(target.ip):
            self.dropped += 1
            return
        target = self._dialer.here(target)
        version = target.ip.version
        if (sock := self._outside.get(version)) is None:
            sock = self._outside[version] = _udp(version)
            asyncio.get_running_loop().add_reader(sock, self._on_outside, sock)
        try:
            sock.sendto(payload, (str(target.ip), target.port))
        except OSError:
            self.dropped += 1

    def _on_outside(self, sock: socket.socket) -> None:
        for _ in range(READS):
            try:
                data, source = sock.recvfrom(LARGEST)
            except OSError:
                return
            self._answer(AddrPort.of(*source[:2]), data)

    def _answer(self, source: AddrPort, payload: bytes) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):  # its buffer is full
                where = (str(self._client.ip), self._client.port)
                self._sock.sendto(encode_datagram(source, payload), where)


def _udp(version: int) -> socket.socket:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock
