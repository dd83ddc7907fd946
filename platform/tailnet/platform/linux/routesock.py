"""A netlink socket for routes: many in one datagram, answered in bulk.

The kernel works while it takes a datagram, so its answers are there when ``send`` returns.  Only
the last request of a datagram asks for an acknowledgement; errors come in any case, one for each
request that failed.  :data:`BATCH` requests that all fail still fit into the receive buffer; should
answers be lost all the same (``ENOBUFS``), the table is read and compared.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Self

from tailnet.platform.linux.routemsg import End, Found, Report, decode, encode_change, encode_dump
from tailnet.platform.linux.rules import Request, Route, Verb, family_of

BATCH = 128  # requests in one datagram, 1 ms of work
MANY = 1024  # requests; from there on a thread sends them, so many in a datagram
READ = 256 << 10  # bytes; the kernel fills datagrams of a dump up to 32 KiB
PATIENCE = 10.0  # seconds; the kernel answers at once
DUMPS = 5  # attempts at a dump that others do not interrupt

SOL_NETLINK = 270
NETLINK_GET_STRICT_CHK = 12


class RouteSocket:
    """In the network namespace of the thread that opens it."""

    def __init__(
        self, *, strict: bool = True, receive_buffer: int | None = None, port: int = 0
    ) -> None:
        """``strict``: the kernel filters dumps; ``receive_buffer`` [bytes]: if not the default.

        ``port``: netlink's, named in the notifications of our changes; 0, or one that is taken,
        lets the kernel choose.
        """
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            self._sock.bind((port, 0))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            self._sock.bind((0, 0))
        if strict:
            self._sock.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    async def routes(self, family: int, table: int) -> frozenset[Route]:
        """The routes of one table that lead to a device or end the lookup.

        Raises:
            OSError: the kernel refuses; ``ENOENT`` for a table without routes.
        """
        for _ in range(DUMPS - 1):
            found, whole = await self._dump(family, table)
            if whole:
                return frozenset(found)
        return frozenset((await self._dump(family, table))[0])

    async def change(self, requests: Sequence[Request]) -> list[tuple[Request, int]]:
        """Do them all, in order; returns those that failed, each with its errno.

        The kernel works as long on many as everything else that follows a large network map takes;
        so a thread waits for it.

        Raises:
            OSError: the kernel cannot be talked to.
        """
        failed: list[tuple[Request, int]] = []
        if len(requests) >= MANY:
            work = asyncio.get_running_loop().run_in_executor(None, self._change_many, requests)
            try:
                failed, unclear = await asyncio.shield(work)
            finally:
                await work  # it does not stop when cancelled, and nobody may close its socket
            for batch in unclear:
                failed += await self._compare(batch)
            return failed
        for start in range(0, len(requests), BATCH):
            failed += await self._change(requests[start : start + BATCH])
            await asyncio.sleep(0)
        return failed

    async def _change(self, batch: Sequence[Request]) -> list[tuple[Request, int]]:
        first = self._send(batch)
        failed: list[tuple[Request, int]] = []
        while True:
            try:
                data = await self._receive()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return await self._compare(batch)
            if _judge(data, batch, first, failed):
                return failed

    def _change_many(
        self, requests: Sequence[Request]
    ) -> tuple[list[tuple[Request, int]], list[Sequence[Request]]]:
        """In a thread: those that failed, and datagrams whose answers were lost."""
        failed: list[tuple[Request, int]] = []
        unclear: list[Sequence[Request]] = []
        for start in range(0, len(requests), MANY):
            batch = requests[start : start + MANY]
            first = self._send(batch)
            judged: list[tuple[Request, int]] = []
            try:
                while not _judge(self._sock.recv(READ), batch, first, judged):
                    pass
            except OSError as error:
                if error.errno not in {errno.ENOBUFS, errno.EAGAIN}:  # lost; told once, or not
                    raise
                unclear.append(batch)
                self._drain()
            else:
                failed += judged
        return failed, unclear

    def _send(self, batch: Sequence[Request]) -> int:
        """Ask for all of these; the number of the first."""
        first = self._sequence + 1
        self._sequence += len(batch)
        last = self._sequence
        self._sock.send(
            b"".join(
                [
                    encode_change(request, number, acknowledge=number == last)
                    for number, request in enumerate(batch, start=first)
                ]
            )
        )
        return first

    async def _compare(self, batch: Sequence[Request]) -> list[tuple[Request, int]]:
        """Answers were lost: what is not as it was asked for has failed."""
        places = {(family_of(request.item), r.table) for request, r in _with_routes(batch)}
        there: set[Route] = set()
        for family, table in places:
            there |= await self.routes(family, table)
        return [
            (request, errno.ENOBUFS)
            for request, route in _with_routes(batch)
            if (route in there) != (request.verb is Verb.ADD)
        ]

    async def _dump(self, family: int, table: int) -> tuple[set[Route], bool]:
        self._sequence += 1
        self._sock.send(encode_dump(family, table, self._sequence))
        found: set[Route] = set()
        whole = True
        while True:
            try:
                data = await self._receive()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue  # answers to something earlier were lost; a dump waits for its reader
            for said in decode(data, table):
                if said.sequence != self._sequence:
                    continue
                if isinstance(said, Found):
                    if family_of(said.route) == family:
                        found.add(said.route)
                elif said.code:
                    raise OSError(said.code, os.strerror(said.code))
                elif isinstance(said, End):
                    return found, whole and not said.interrupted
            await asyncio.sleep(0)

    def _drain(self) -> None:
        """What is left of answers; only an empty buffer tells of the next loss."""
        with contextlib.suppress(BlockingIOError):
            while self._sock.recv(READ):
                pass

    async def _receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().sock_recv(self._sock, READ)


def _judge(
    data: bytes, batch: Sequence[Request], first: int, failed: list[tuple[Request, int]]
) -> bool:
    """Note what the kernel says of a batch; true after its word on the last one."""
    last = first + len(batch) - 1
    for said in decode(data, 0):
        if isinstance(said, Report) and first <= said.sequence <= last:
            if said.code:
                failed.append((batch[said.sequence - first], said.code))
            if said.sequence == last:
                return True
    return False


def _with_routes(batch: Sequence[Request]) -> Iterator[tuple[Request, Route]]:
    for request in batch:
        if isinstance(request.item, Route):
            yield request, request.item
