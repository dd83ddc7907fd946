"""A gateway that means no good: it answers who asks it for a port, each time with one fault.

``python -m integration.lab.bad_gateway GATEWAY OTHER FAULT`` runs in the router's namespace until
it is ended.  ``OTHER`` is an address there that is not the gateway's.  Its log says ``asked`` for
each question that met the fault, ``described`` for each description fetched, and ``trapped`` for
each connection to a place that nobody may go to.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from struct import pack
from typing import cast

TRAP = 5001  # TCP; where redirects, entities and foreign locations lead
CONTROL = 5000  # TCP, the descriptions
LIE = bytes((6, 6, 6, 6))  # the outer address of every lie
FLOOD = 64 << 20  # bytes of an endless answer
HUGE = 1400  # datagrams of the largest size, in all

_FOUND = (
    "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
    "LOCATION: http://{host}:{port}/root.xml\r\n\r\n"
)
_OK = b"HTTP/1.1 200 OK\r\n"
_ENTITIES = b"""<?xml version="1.0"?>
<!DOCTYPE root [
<!ENTITY out SYSTEM "http://%(host)s:%(trap)d/entity">
<!ENTITY %% ext SYSTEM "http://%(host)s:%(trap)d/dtd"> %%ext;
<!ENTITY a "%(many)s"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
]>
<root><device><URLBase>&out;&b;</URLBase></device></root>"""


def say(what: str) -> None:
    """For whoever reads the log."""
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


def granted(request: bytes) -> bytes:
    """NAT-PMP's answer, an address outside or a mapping, as a real gateway would say it."""
    if request[1:2] == b"\0":
        return pack("!BBHI", 0, 0x80, 0, 1000) + LIE
    return pack("!BBHIHHI", 0, 0x81, 0, 1000, *_port_of(request), 7200)


def _port_of(request: bytes) -> tuple[int, int]:
    port = int.from_bytes(request[4:6], "big")
    return port, port


class Answering(asyncio.DatagramProtocol):
    """One UDP port; ``answers`` gives what a question is answered with."""

    def __init__(self, answers: Callable[[bytes], list[bytes]], via: "Answering | None") -> None:
        self._answers = answers
        self._via = via or self
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer, perhaps from another address."""
        answers, transport = self._answers(data), self._via.transport
        if not answers or transport is None:
            return
        for answer in answers:
            transport.sendto(answer, addr)
        say("asked")


class BadGateway:
    """Everything of one fault."""

    def __init__(self, gateway: str, other: str, fault: str) -> None:
        self._gateway, self._other, self._fault = gateway, other, fault
        self._sent = 0

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        elsewhere = None
        if self._fault == "another source":
            _, elsewhere = await loop.create_datagram_endpoint(
                lambda: Answering(lambda _: [], None), local_addr=(self._other, 5351)
            )
        for port, answers in ((5351, self._map), (1900, self._search)):
            await loop.create_datagram_endpoint(
                partial(Answering, answers, elsewhere), local_addr=(self._gateway, port)
            )
        await asyncio.start_server(self._describe, self._gateway, CONTROL)
        await asyncio.start_server(self._trap, self._other, TRAP)
        say("ready")

    def _map(self, request: bytes) -> list[bytes]:
        """What NAT-PMP and PCP are answered with."""
        match self._fault:
            case "noise":
                return [os.urandom(n) for n in (0, 1, 3, 12, 16, 24, 60, 1100)]
            case "huge":
                self._sent += 1
                return [granted(request)[:2] + os.urandom(60_000)] if self._sent < HUGE else []
            case "another source":
                return [granted(request)]
            case "lies":
                nowhere = pack("!BBHI", 0, 0x80, 0, 1000) + bytes(4)
                other = pack("!BBHIHHI", 0, 0x81, 0, 1000, 1, 1, 0xFFFFFFFF)
                return [nowhere, other, b"\2\x81\0\0" + b"\xff" * 56]
            case _:
                return []

    def _search(self, request: bytes) -> list[bytes]:
        """What a search is answered with."""
        del request
        match self._fault:
            case "noise":
                return [os.urandom(900), b"HTTP/1.1 200 OK\r\n" + os.urandom(900)]
            case "huge":
                return [_FOUND.format(host="a" * 60_000, port=1).encode()]
            case "slow" | "endless" | "redirect" | "entities" | "deep" | "elsewhere":
                host, port = self._gateway, CONTROL
                if self._fault == "elsewhere":
                    host, port = self._other, TRAP
                return [_FOUND.format(host=host, port=port).encode()] * 8
            case _:
                return []

    async def _describe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What a description is answered with."""
        say("described")
        trap = f"http://{self._other}:{TRAP}/"
        body = b""
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            match self._fault:
                case "slow":
                    writer.write(_OK + b"Content-Length: 50000\r\n\r\n<")
                    while True:
                        writer.write(b" ")
                        await writer.drain()
                        await asyncio.sleep(0.2)
                case "endless":
                    writer.write(_OK + b"\r\n")
                    for _ in range(FLOOD >> 16):
                        writer.write(b" " * (1 << 16))
                        await writer.drain()
                case "redirect":
                    writer.write(f"HTTP/1.1 302 Found\r\nLocation: {trap}\r\n\r\n".encode())
                case "entities":
                    names = {b"host": self._other.encode(), b"trap": TRAP, b"many": b"x" * 2000}
                    body = _ENTITIES % names
                case _:
                    body = b"<a>" * 20_000
            writer.write(_OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()

    async def _trap(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        say("trapped")
        writer.close()


async def run(gateway: str, other: str, fault: str) -> None:
    """Until the process is ended."""
    await BadGateway(gateway, other, fault).start()
    await asyncio.get_running_loop().create_future()


FAULTS = {
    "noise": "datagrams that mean nothing",
    "huge": "datagrams of 60 kB",
    "another source": "a grant by NAT-PMP, from another machine",
    "lies": "grants that nobody asked for, of no address, for ever",
    "slow": "a description that never ends, five bytes a second",
    "endless": "a description of 64 MiB",
    "redirect": "a description that is elsewhere",
    "entities": "a description with a document type, external entities and their bomb",
    "deep": "a description of 20,000 levels",
    "elsewhere": "a description on another machine",
}
"""By name, in words."""


def main() -> None:
    """Run one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateway")
    parser.add_argument("other")
    parser.add_argument("fault", choices=FAULTS)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.gateway, arguments.other, arguments.fault))


if __name__ == "__main__":
    main()
