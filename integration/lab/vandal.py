"""Servers that misbehave on purpose: a control server and a relay with one fault each.

Up to its fault each does what an honest one does, so that the fault meets the code behind it.
"""

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable, Mapping

from integration.lab.control import ControlServer
from integration.lab.control_noise import Request
from integration.lab.derp_http import upgrade_response
from zstandard import ZstdCompressor

from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.derp import frames
from tailnet.agent.keys import KEY_LEN, NodePrivate

log = logging.getLogger("lab.vandal")

CHUNK = 16 << 10  # bytes
FLOOD = 64 << 20  # bytes that an endless fault sends at most
BOMB = 200 << 20  # bytes of JSON in a few kilobytes of zstd

Maker = Callable[[], bytes]

_OK = b"HTTP/1.1 200 OK\r\n"
_UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\r\n"
)


def _messages(*bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, "little") + body for body in bodies)


def _zstd(json: bytes) -> bytes:
    return ZstdCompressor().compress(json)


def _bomb() -> bytes:
    compressor = ZstdCompressor().compressobj()
    block = b" " * (1 << 20)
    parts = [compressor.compress(b'{"Peers":[')]
    parts += [compressor.compress(block) for _ in range(BOMB >> 20)]
    return b"".join([*parts, compressor.flush()])


# What comes instead of an answer, before any Noise.
CONTROL_OUTER: Mapping[str, Maker] = {
    "noise": lambda: os.urandom(4096),
    "half a head": lambda: b"HTTP/1.1 200 O",
    "half a body": lambda: _OK + b'Content-Length: 200\r\n\r\n{"publicKey":',
    "huge length": lambda: _OK + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "huge chunk": lambda: _OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
    "key of noise": lambda: _OK + b"Content-Length: 16\r\n\r\n" + os.urandom(16),
    "deep JSON": lambda: _OK + b"Content-Length: 60000\r\n\r\n" + b"[" * 60_000,
}
# What comes instead of the Noise response.
CONTROL_HANDSHAKE: Mapping[str, Maker] = {
    "no upgrade": lambda: _OK + b"Content-Length: 0\r\n\r\n",
    "response of noise": lambda: _UPGRADED + b"\x02\x00\x30" + os.urandom(48),
    "half a response": lambda: _UPGRADED + b"\x02\x00\x30" + os.urandom(9),
    "huge error": lambda: _UPGRADED + b"\x03\xff\xff" + b"\x1b[2J\n" * 13_000,
}
# What comes instead of the map stream.
CONTROL_MAP: Mapping[str, Maker] = {
    "map not JSON": lambda: _messages(_zstd(b"\xff\x00[")),
    "map not zstd": lambda: _messages(os.urandom(900)),
    "map of wrong types": lambda: _messages(
        _zstd(b'{"Node":7,"Peers":{"a":1},"DERPMap":[],"PacketFilter":"x","ControlTime":-1}')
    ),
    "map out of order": lambda: _messages(_zstd(b'{"PeersChanged":[{"ID":7}]}')),
    "map too long": lambda: b"\xff\xff\xff\xff" + os.urandom(900),
    "half a map": lambda: (1 << 20).to_bytes(4, "little") + os.urandom(900),
    "bomb": lambda: _messages(_bomb()),
    "deep map": lambda: _messages(_zstd(b'{"Node":' * 100_000)),
}
CONTROL_FAULTS = (
    *CONTROL_OUTER,
    *CONTROL_HANDSHAKE,
    *CONTROL_MAP,
    "endless head",
    "records of noise",
    "HTTP/2 of noise",
    "huge early payload",
)


class VandalControl(ControlServer):
    """A control server with a fault.

    Attributes:
        fault: one of :data:`CONTROL_FAULTS`.
        done: how often it happened.
    """

    fault = ""
    done = 0

    async def _outer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault == "endless head":
            self.done += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_OK)
            for number in range(FLOOD // CHUNK):
                writer.write(b"X-%d: " % number + b"x" * CHUNK + b"\r\n")
                await writer.drain()
        elif (make := CONTROL_OUTER.get(self.fault)) is not None:
            await reader.readuntil(b"\r\n\r\n")
            await self._misbehave(writer, make())
        else:
            await super()._outer(reader, writer)

    async def _ts2021(
        self,
        method: str,
        fields: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if (make := CONTROL_HANDSHAKE.get(self.fault)) is not None:
            await self._misbehave(writer, make())
        else:
            await super()._ts2021(method, fields, reader, writer)

    async def _inner(self, request: Request) -> None:
        match self.fault:
            case "records of noise":
                await self._misbehave(request.writer, b"\x04\x01\x00" + os.urandom(256))
            case "HTTP/2 of noise":
                await self._misbehave(request.writer, request.seal(os.urandom(4096)))
            case "huge early payload":  # too late to be one: it is taken for a frame of HTTP/2
                await self._misbehave(
                    request.writer, request.seal(b"\xff\xff\xffTS\xff\xff\xff\xff")
                )
            case _:
                await super()._inner(request)

    async def _map(self, request: Request) -> None:
        if (make := CONTROL_MAP.get(self.fault)) is None:
            await super()._map(request)
            return
        self.done += 1
        request.start(200)
        await request.write(make())
        request.end()

    async def _misbehave(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        self.done += 1
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def _frame(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(body) if length is None else length).to_bytes(4, "big") + body


def _packet_of(key: bytes) -> bytes:
    """A handshake, a message of data or disco, all noise, from this node key."""
    head = random.choice((b"\x01\0\0\0", b"\x04\0\0\0", "TS💬".encode()))
    return _frame(frames.Kind.RECV_PACKET, key + head + os.urandom(144))


def _random_frames() -> bytes:
    return b"".join(_frame(kind, os.urandom(kind * 3)) for kind in range(64))


# What a relay sends after the upgrade and its key.
RELAY_FAULTS: Mapping[str, Maker] = {
    "noise": lambda: os.urandom(100_000),
    "frames of noise": _random_frames,
    "huge frame": lambda: _frame(frames.Kind.RECV_PACKET, b"", 0xFFFFFFFF),
    "half a frame": lambda: _frame(frames.Kind.RECV_PACKET, os.urandom(100), 1000),
    "info of noise": lambda: _frame(frames.Kind.SERVER_INFO, os.urandom(120)),
    "many complaints": lambda: _frame(frames.Kind.HEALTH, b"\x1b[2J" * 300) * 500,
    "many pings": lambda: _frame(frames.Kind.PING, os.urandom(8)) * 5000,
    "empty frames": lambda: b"".join(_frame(kind, b"") for kind in range(256)) * 20,
    "packets of strangers": lambda: b"".join(
        map(_packet_of, (os.urandom(32) for _ in range(20_000)))
    ),
}
# The same for a relay that knows its clients, and names them as senders.
RELAY_LIES: Mapping[str, Callable[[bytes], bytes]] = {
    "packets in foreign names": lambda key: _packet_of(key) * 5000,
    "everybody is gone": lambda key: _frame(frames.Kind.PEER_GONE, key + b"\1") * 5000,
}


class VandalRelay:
    """A relay with a fault.

    Attributes:
        done: how often it happened.
        relayed: always 0; honest relays count here.
    """

    def __init__(self, private: NodePrivate, fault: str) -> None:
        self._public = public_of(private)
        self._make = RELAY_FAULTS.get(fault, bytes)
        self._lie = RELAY_LIES.get(fault)
        self._clients: set[bytes] = set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.done = 0
        self.relayed = 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, host, port, ssl=tls)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(upgrade_response(self._public))
            writer.write(frames.encode_server_key(self._public))
            if self._lie is not None:
                hello = await reader.readexactly(frames.HEADER_LEN + KEY_LEN)
                self._clients.add(hello[frames.HEADER_LEN :])
                for key in self._clients:
                    writer.write(self._lie(key))
            writer.write(self._make())
            await writer.drain()
            self.done += 1
            await reader.read(1 << 20)
        except (OSError, asyncio.IncompleteReadError) as error:
            log.debug("connection ended: %s", error)
        finally:
            self._writers.discard(writer)
            writer.close()
