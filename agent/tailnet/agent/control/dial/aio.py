"""The shell that reaches a control server: name resolution, sockets, TLS, the upgrade."""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tailnet.agent.control.channel import Channel
from tailnet.agent.control.conn.aio import Connection
from tailnet.agent.control.dialplan import (
    DIAL_TIMEOUT,
    FORCE_TLS_WINDOW,
    Attempt,
    ServerURL,
    key_attempt,
    noise_attempts,
)
from tailnet.agent.control.http1 import (
    MAX_BODY,
    MAX_HEAD,
    Upgrade,
    get_request,
    read_body_untrusted,
    split_head_untrusted,
)
from tailnet.agent.control.register import CAPABILITY_VERSION
from tailnet.agent.errors import BadPacket, TailnetError, UserError
from tailnet.agent.keys import MachinePrivate, MachinePublic
from tailnet.agent.noise.control import EPHEMERAL_LEN, Initiator, TransportKeys
from tailnet.agent.tailcfg.codec import decode_untrusted
from tailnet.agent.tailcfg.register import ServerKeys

ADDRESS_DELAY = 0.3  # seconds between addresses of one name; RFC 8305 section 5
READ_SIZE = 16 << 10  # bytes
# A login that waits for a person is silent for hours; what forgets idle flows must not.
KEEP_ALIVE = (
    (socket.TCP_KEEPIDLE, 30),  # seconds
    (socket.TCP_KEEPINTVL, 15),  # seconds
    (socket.TCP_KEEPCNT, 4),
)

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_Sockaddr = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class _Won(Exception):
    """Ends a race."""


class Dialer:
    """Opens connections to one control server.

    Args:
        ca_file: PEM file of roots to trust besides the system's, for ``GET /key``.
        mark: called on every socket before it connects.
    """

    def __init__(
        self,
        url: ServerURL,
        *,
        ca_file: str | None,
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._url = url
        self._ca_file = ca_file
        self._mark = mark
        self._now = now
        self._random_bytes = random_bytes
        self._last_good: dict[str, list[_Sockaddr]] = {}
        self._last_dial: float | None = None

    async def fetch_key(self) -> MachinePublic:
        """The server's Noise key.

        Raises:
            UserError: one line that says what is wrong with the server.
        """
        url = self._url.text
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                body = await self._get_key()
            keys = decode_untrusted(body, ServerKeys)
        except ssl.SSLCertVerificationError as error:
            msg = f"the certificate of {url} is not trusted: {error.verify_message}"
            raise UserError(msg) from None
        except ssl.SSLError as error:
            msg = f"{url} does not speak TLS: {error.reason or error}"
            raise UserError(msg) from None
        except TimeoutError:
            msg = f"cannot reach {url}: no answer within {DIAL_TIMEOUT:.0f} s"
            raise UserError(msg) from None
        except OSError as error:
            msg = f"cannot reach {url}: {_reason(error)}"
            raise UserError(msg) from None
        except BadPacket as error:
            msg = f"{url} is not a control server: {error}"
            raise UserError(msg) from None
        if keys.public_key.is_zero:
            msg = f"{url} is too old: it has no Noise key"
            raise UserError(msg)
        return keys.public_key

    async def connect(self, machine: MachinePrivate, server_key: MachinePublic) -> Connection:
        """An open Noise connection; the first attempt whose handshake completes wins.

        Raises:
            UserError: none did; the text has all reasons.
        """
        last, self._last_dial = self._last_dial, self._now()
        recent = last is not None and self._last_dial - last < FORCE_TLS_WINDOW
        attempts = noise_attempts(self._url, force_tls=recent)

        def starter(attempt: Attempt) -> Callable[[], Awaitable[Connection]]:
            return lambda: self._upgrade(attempt, machine, server_key)

        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                connection = await _race(
                    [(attempt.delay, starter(attempt)) for attempt in attempts],
                    discard=lambda connection: connection.close("another was faster"),
                )
        except TimeoutError:
            msg = f"cannot reach {self._url.text}: no answer within {DIAL_TIMEOUT:.0f} s"
            raise UserError(msg) from None
        except OSError as error:
            msg = f"cannot connect to {self._url.text}: {_reason(error)}"
            raise UserError(msg) from None
        connection.start()
        return connection

    async def _get_key(self) -> bytes:
        attempt = key_attempt(self._url)
        reader, writer = await self._open(attempt, self._verifying() if attempt.tls else None)
        try:
            path = f"/key?v={CAPABILITY_VERSION}"
            writer.write(get_request(path, self._url.authority))
            data = b""
            while len(data) <= MAX_HEAD + MAX_BODY:
                chunk = await reader.read(READ_SIZE)
                data += chunk
                if (split := split_head_untrusted(data)) is not None:
                    head, rest = split
                    if head.status != 200:
                        msg = f"GET /key answered {head.status}"
                        raise BadPacket(msg)
                    body = read_body_untrusted(head, rest, eof=not chunk)
                    if body is not None:
                        return body
                elif not chunk:
                    msg = "it closed the connection" if not data else "its answer was cut off"
                    raise BadPacket(msg)
            msg = "its answer is too long"
            raise BadPacket(msg)
        finally:
            writer.transport.abort()

    async def _upgrade(
        self, attempt: Attempt, machine: MachinePrivate, server_key: MachinePublic
    ) -> Connection:
        ephemeral = self._random_bytes(EPHEMERAL_LEN)
        initiator = Initiator(machine, server_key, ephemeral, CAPABILITY_VERSION)
        upgrade = Upgrade(self._url.authority, initiator)
        reader, writer = await self._open(attempt, _trusting_all() if attempt.tls else None)
        try:
            writer.write(upgrade.request)
            keys, rest = await _handshake(upgrade, reader)
            return Connection(reader, writer, Channel(keys, client=True), rest)
        except BaseException:
            writer.transport.abort()
            raise

    async def _open(self, attempt: Attempt, tls: ssl.SSLContext | None) -> Streams:
        def starter(address: _Sockaddr) -> Callable[[], Awaitable[Streams]]:
            return lambda: self._open_address(address, attempt.host, tls)

        addresses = await self._resolve(attempt.host, attempt.port)
        return await _race(
            [(ADDRESS_DELAY, starter(address)) for address in addresses],
            discard=lambda streams: streams[1].transport.abort(),
        )

    async def _open_address(
        self, address: _Sockaddr, host: str, tls: ssl.SSLContext | None
    ) -> Streams:
        family, sockaddr = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEP_ALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            self._mark(sock)
            await asyncio.get_running_loop().sock_connect(sock, sockaddr)
            name = host if tls is not None else None
            return await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise

    async def _resolve(self, host: str, port: int) -> list[_Sockaddr]:
        loop = asyncio.get_running_loop()
        known = self._last_good.get(f"{host}:{port}")
        try:
            async with asyncio.timeout(3.0 if known else DIAL_TIMEOUT):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError):
            if known:
                return known
            raise
        good = [(int(family), sockaddr) for family, _, _, _, sockaddr in found]
        self._last_good[f"{host}:{port}"] = good
        return good

    def _verifying(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        return context


async def _handshake(upgrade: Upgrade, reader: asyncio.StreamReader) -> tuple[TransportKeys, bytes]:
    while data := await reader.read(READ_SIZE):
        if (done := upgrade.receive_untrusted(data)) is not None:
            return done
    msg = "the server closed the connection during the handshake"
    raise ConnectionResetError(msg)


def _trusting_all() -> ssl.SSLContext:
    """For ``/ts2021``, where the Noise handshake authenticates the server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)


async def _race(
    attempts: Sequence[tuple[float, Callable[[], Awaitable[T]]]], *, discard: Callable[[T], None]
) -> T:
    """The first result.  An attempt starts its delay [s] after the one before, or when that fails.

    Raises:
        OSError: all failed; the first one's error, or the texts of all.
    """
    won: list[T] = []
    errors: list[Exception] = []
    failed = [asyncio.Event() for _ in attempts]

    async def run(index: int, delay: float, start: Callable[[], Awaitable[T]]) -> None:
        if index:
            try:
                async with asyncio.timeout(delay * index):
                    await failed[index - 1].wait()
            except TimeoutError:
                pass  # it is our turn
        try:
            value = await start()
        except (OSError, TailnetError) as error:
            errors.append(error)
            failed[index].set()
            return
        if won:
            discard(value)
            return
        won.append(value)
        raise _Won

    try:
        async with asyncio.TaskGroup() as group:
            for index, (delay, start) in enumerate(attempts):
                group.create_task(run(index, delay, start), name=f"dial {index}")
    except* _Won:
        pass
    if won:
        return won[0]
    if len(errors) == 1 and isinstance(errors[0], OSError):
        raise errors[0]
    raise OSError("; ".join(_reason(e) if isinstance(e, OSError) else str(e) for e in errors))
