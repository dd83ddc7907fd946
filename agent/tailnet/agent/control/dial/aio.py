"""The shell that reaches a control server: ``GET /key``, the upgrade, and requests outside it."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.control.channel import Channel
from tailnet.agent.control.conn.aio import Connection
from tailnet.agent.control.dialplan import (
    DIAL_TIMEOUT,
    FORCE_TLS_WINDOW,
    Attempt,
    Candidate,
    ServerURL,
    ace_attempts,
    candidate_attempts,
    dial_timeout,
    key_attempt,
    noise_attempts,
)
from tailnet.agent.control.http1 import Upgrade, request
from tailnet.agent.control.race.aio import race, reason
from tailnet.agent.control.reach.aio import READ_SIZE, Reacher, Streams
from tailnet.agent.control.resolve.aio import Resolver
from tailnet.agent.control.trouble import NoTls
from tailnet.agent.derp.proxy import LOGIN_WANTED, login_wanted
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.httpd.response import (
    MAX_BODY,
    MAX_HEAD,
    ResponseHead,
    read_body_untrusted,
    split_head_untrusted,
)
from tailnet.agent.keys import MachinePrivate, MachinePublic
from tailnet.agent.noise.control import EPHEMERAL_LEN, Initiator, TransportKeys
from tailnet.agent.tailcfg.codec import decode_untrusted
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.register import ServerKeys

OUT_OF_TIME = frozenset((9, 10))  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and …_HAS_EXPIRED


class Dialer:
    """Opens connections to one control server.

    Args:
        ca_file: PEM file of roots to trust besides the system's, for all but ``/ts2021``.
        environ: proxies and switches, as in the environment.
        mark: called on every socket before it connects.

    Attributes:
        plan: other ways to the server, which it has told us; tried first.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        url: ServerURL,
        *,
        ca_file: str | None,
        environ: Mapping[str, str],
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._url = url
        self._ca_file = ca_file
        self._environ = environ
        self._now = now
        self._wall = wall
        self._random_bytes = random_bytes
        self._resolver = Resolver(
            ca_file=ca_file,
            mark=mark,
            now=now,
            wall=wall,
            random_bytes=random_bytes,
            environ=environ,
        )
        self._reach = Reacher(self._resolver, mark=mark, environ=environ)
        self._last_dial: float | None = None
        self.plan: tuple[Candidate, ...] = ()

    def know_relays(self, derp_map: DERPMap) -> None:
        """Relays that can be asked for the server's address when DNS fails."""
        self._resolver.derp_map = derp_map

    async def fetch_key(self) -> MachinePublic:
        """The server's Noise key.

        Raises:
            UserError: one line that says what is wrong with the server.
        """
        url = self._url.text
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                path = f"/key?v={CAPABILITY_VERSION}"
                answer = await self._exchange(self._url, "GET", path, b"")
            keys = _server_keys_untrusted(*answer)
        except ssl.SSLCertVerificationError as error:
            msg = f"the certificate of {url} is not trusted: {error.verify_message}"
            if error.verify_code in OUT_OF_TIME:
                msg += f"; the clock of this machine says {self._wall():%Y-%m-%d}, is that right?"
            raise NoTls(msg) from None
        except ssl.SSLError as error:
            msg = f"{url} does not speak TLS: {error.reason or error}"
            raise NoTls(msg) from None
        except TimeoutError:
            msg = f"cannot reach {url}: no answer within {DIAL_TIMEOUT:.0f} s"
            raise UserError(msg) from None
        except OSError as error:
            msg = f"cannot reach {url}: {reason(error)}"
            raise UserError(msg) from None
        except BadPacket as error:
            msg = f"{url} is not a control server: {error}"
            raise UserError(msg) from None
        if keys.public_key.is_zero:
            msg = f"{url} is too old: it has no Noise key"
            raise UserError(msg)
        return keys.public_key

    async def fetch(self, server: ServerURL, method: str, path: str, body: bytes) -> int:
        """One request outside of the Noise connection; the status.

        Raises:
            OSError: not to be reached.
            TailnetError: no HTTP there, or a proxy refuses.
        """
        head, _ = await self._exchange(server, method, path, body)
        return head.status

    async def connect(self, machine: MachinePrivate, server_key: MachinePublic) -> Connection:
        """An open Noise connection; the first attempt whose handshake completes wins.

        Raises:
            UserError: none did; the text has all reasons.
        """
        last, self._last_dial = self._last_dial, self._now()
        recent = last is not None and self._last_dial - last < FORCE_TLS_WINDOW
        force_tls = recent or bool(self._environ.get("TS_FORCE_NOISE_443"))
        plan = () if self._environ.get("TS_USE_CONTROL_DIAL_PLAN") == "0" else self.plan
        noise = _Noise(self, machine, server_key, force_tls=force_tls)
        timeout = dial_timeout(plan)
        try:
            async with asyncio.timeout(timeout):
                connection = await noise.connect(plan)
        except TimeoutError:
            msg = f"cannot reach {self._url.text}: no answer within {timeout:.0f} s"
            raise UserError(msg) from None
        except OSError as error:
            msg = f"cannot connect to {self._url.text}: {reason(error)}"
            raise UserError(msg) from None
        connection.start()
        return connection

    async def _exchange(
        self, server: ServerURL, method: str, path: str, body: bytes
    ) -> tuple[ResponseHead, bytes]:
        """A request of its own connection, and the whole answer."""
        attempt = key_attempt(server)
        proxy = None if attempt.tls else self._reach.proxy(attempt)
        login = ""
        if proxy is not None:  # it wants to see the whole URL, and asks the server itself
            path, login = server.text + path, proxy.credentials
            reader, writer = await self._reach.open_proxy(proxy)
        else:
            tls = self.verifying() if attempt.tls else None
            reader, writer = await self._reach.open(attempt, tls)
        try:
            writer.write(request(method, path, server.authority, body, proxy_login=login))
            answer = await _read_answer(reader, bodiless=method == "HEAD")
            if proxy is not None and answer[0].status == LOGIN_WANTED:
                raise UserError(login_wanted(proxy.url))
            return answer
        finally:
            writer.transport.abort()

    async def upgrade(self, streams: Streams, upgrade: Upgrade) -> Connection:
        """Turn an HTTP stream into a connection that is not started yet.

        Raises:
            OSError: the stream broke.
            TailnetError: the server does not want to, or the handshake failed.
        """
        reader, writer = streams
        try:
            writer.write(upgrade.request)
            keys, rest = await _handshake(upgrade, reader)
            return Connection(reader, writer, Channel(keys, client=True), rest, self._now)
        except BaseException:  # cancelled, too: nobody else knows the socket, and it goes on
            writer.transport.abort()
            raise

    def verifying(self) -> ssl.SSLContext:
        """A context that trusts the system's roots and our own."""
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        return context


class _Noise:
    """One dial: every way to the server at once, in the order of the rules."""

    def __init__(
        self,
        dialer: Dialer,
        machine: MachinePrivate,
        server_key: MachinePublic,
        *,
        force_tls: bool,
    ) -> None:
        self._dialer = dialer
        self._url, self._reach = dialer._url, dialer._reach  # noqa: SLF001 - part of the dialer
        self._random_bytes = dialer._random_bytes  # noqa: SLF001 - part of the dialer
        self._machine = machine
        self._server_key = server_key
        self._force_tls = force_tls

    async def connect(self, plan: tuple[Candidate, ...]) -> Connection:
        """By the plan if there is one, and if that fails as the URL says."""
        if plan:
            starters = [(c.delay, self._by(c)) for c in plan]
            try:
                return await race(sorted(starters, key=lambda s: s[0]), discard=_discard)
            except OSError:
                pass  # the plan may be out of date
        return await self._first(noise_attempts(self._url, force_tls=self._force_tls))

    def _by(self, candidate: Candidate) -> Callable[[], Awaitable[Connection]]:
        async def start() -> Connection:
            async with asyncio.timeout(candidate.timeout or None):
                if candidate.ace_host:
                    return await self._by_ace(candidate)
                return await self._first(
                    candidate_attempts(self._url, candidate, force_tls=self._force_tls)
                )

        return start

    async def _first(self, attempts: list[Attempt]) -> Connection:
        def starter(attempt: Attempt) -> Callable[[], Awaitable[Connection]]:
            return lambda: self._upgrade(attempt)

        return await race([(a.delay, starter(a)) for a in attempts], discard=_discard)

    async def _upgrade(self, attempt: Attempt) -> Connection:
        streams = await self._reach.open(attempt, _trusting_all() if attempt.tls else None)
        return await self._dialer.upgrade(streams, self._new_upgrade())

    async def _by_ace(self, candidate: Candidate) -> Connection:
        relay, beyond = ace_attempts(self._url, candidate)
        streams = await self._reach.open(relay, self._dialer.verifying())
        streams = await self._reach.tunnel(streams, candidate.ace_host, beyond, None, "")
        return await self._dialer.upgrade(streams, self._new_upgrade())

    def _new_upgrade(self) -> Upgrade:
        ephemeral = self._random_bytes(EPHEMERAL_LEN)
        initiator = Initiator(self._machine, self._server_key, ephemeral, CAPABILITY_VERSION)
        return Upgrade(self._url.authority, initiator)


def _server_keys_untrusted(head: ResponseHead, body: bytes) -> ServerKeys:
    if head.status != 200:
        msg = f"GET /key answered {head.status}"
        raise BadPacket(msg)
    return decode_untrusted(body, ServerKeys)


def _discard(connection: Connection) -> None:
    connection.close("another was faster")


async def _read_answer(
    reader: asyncio.StreamReader, *, bodiless: bool
) -> tuple[ResponseHead, bytes]:
    data = b""
    while len(data) <= MAX_HEAD + MAX_BODY:
        chunk = await reader.read(READ_SIZE)
        data += chunk
        if (split := split_head_untrusted(data)) is not None:
            head, rest = split
            if bodiless or head.status != 200:
                return head, b""
            body = read_body_untrusted(head, rest, eof=not chunk)
            if body is not None:
                return head, body
        elif not chunk:
            msg = "it closed the connection" if not data else "its answer was cut off"
            raise BadPacket(msg)
    msg = "its answer is too long"
    raise BadPacket(msg)


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
