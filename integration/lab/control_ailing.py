"""A control server that is honest to all but some hosts: each of these has one fault, until told.

So a dozen daemons meet a dozen faults at the same time, on one server.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

from integration.lab.control import ControlServer, ControlSettings
from integration.lab.control_faults import Fault, cut_writer, drip, garble, hang, refuse, send
from integration.lab.control_noise import Request
from zstandard import ZstdCompressor

from tailnet.agent.control.mapstream import MAX_MESSAGE

_NOISE = b"\x6e" * 900


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body


def _bomb() -> bytes:
    return _framed(ZstdCompressor().compress(b" " * (MAX_MESSAGE + 1)))


# What becomes of the map stream.
POLL_FAULTS: Mapping[str, Callable[[], Fault]] = {
    "401": lambda: refuse(401, "who are you?\n"),
    "403": lambda: refuse(403, "not today\n"),
    "429": lambda: refuse(429, "slower\n"),
    "500": lambda: refuse(500, "out to lunch\n"),
    "503": lambda: refuse(503, "later\n", retry_after="3"),
    "not JSON": lambda: send(_framed(ZstdCompressor().compress(b"\xff["))),
    "not zstd": lambda: send(_framed(_NOISE)),
    "huge": lambda: send((MAX_MESSAGE + 1).to_bytes(4, "little")),
    "bomb": lambda: send(_bomb()),
    "frame of garbage": lambda: garble(b"\x01\0\x05hello"),
    "wrong MAC": lambda: garble(b"\x04\0\x20" + bytes(32)),
    "drip": lambda: drip(40, 0.01),
    "hang": hang,
}
# After how many bytes each TCP connection ends: in the key, the handshake, the login, the map.
CUTS = {f"cut at {size}": size for size in (0, 40, 300, 600)}
HANGS = "hang before noise"  # a request for the key is never answered


class AilingControl(ControlServer):
    """Hosts are told apart by the address that they come from.

    Attributes:
        faults: by address; a name of ``POLL_FAULTS`` or ``CUTS``, or ``HANGS``.
        asked: TCP connections and requests within them, by address, since its fault began.
    """

    def __init__(
        self,
        settings: ControlSettings,
        *,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        super().__init__(settings, now=now, wall=wall, random_bytes=random_bytes)
        self.faults: dict[str, str] = {}
        self.asked: Counter[str] = Counter()

    def ail(self, faults: Mapping[str, str]) -> None:
        """These hosts and no others have faults, from now on, on new connections.

        Raises:
            ValueError: there is no such fault.
        """
        if unknown := set(faults.values()) - POLL_FAULTS.keys() - CUTS.keys() - {HANGS}:
            msg = f"no such fault: {unknown}"
            raise ValueError(msg)
        hosts = self.faults.keys() | faults.keys()
        self.faults = dict(faults)
        self.asked.clear()
        for writer in [w for w in self._writers if _host(w) in hosts]:
            writer.transport.abort()

    async def _outer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = _host(writer)
        self.asked[host] += 1
        fault = self.faults.get(host, "")
        if fault == HANGS:
            await reader.read(-1)  # until the host gives up
            return
        if fault in CUTS:
            cut_writer(writer, CUTS[fault])
        await super()._outer(reader, writer)

    async def _inner(self, request: Request) -> None:
        host = _host(request.writer)
        self.asked[host] += 1
        make = POLL_FAULTS.get(self.faults.get(host, ""))
        if make is not None and request.path == "/machine/map":
            await make()(request, super()._inner)
        else:
            await super()._inner(request)


def _host(writer: asyncio.StreamWriter) -> str:
    return str(writer.get_extra_info("peername")[0])
