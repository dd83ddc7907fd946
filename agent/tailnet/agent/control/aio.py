"""The control client's shell: log in, follow the map stream, send updates; for ever."""

import asyncio
import dataclasses
import logging
import socket
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from msgspec.structs import replace

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.control.answer.aio import Answerer
from tailnet.agent.control.ask import Answers
from tailnet.agent.control.asking.aio import WISH_TIMEOUT, ask, not_reached, rehearse
from tailnet.agent.control.backoff import Backoff
from tailnet.agent.control.config import ControlConfig
from tailnet.agent.control.conn.aio import Stream
from tailnet.agent.control.dial.aio import Dialer
from tailnet.agent.control.dialplan import parse_candidates, parse_server_url
from tailnet.agent.control.events import (
    AuthURL,
    ControlEvent,
    Disconnected,
    LoginFailed,
    NetmapChanged,
    PopBrowser,
)
from tailnet.agent.control.link.aio import Link
from tailnet.agent.control.register import (
    LOGOUT_EXPIRY,
    MAX_ERROR_TEXT,
    Accepted,
    Again,
    KeyRefused,
    Pending,
    Refused,
    Registration,
    Step,
    Visit,
    is_valid_auth_url,
    one_line_untrusted,
    retry_after,
    says_unknown_node,
)
from tailnet.agent.control.request import map_request
from tailnet.agent.control.resume import Resume
from tailnet.agent.control.session import MapSession
from tailnet.agent.control.trouble import Ended, cause_of
from tailnet.agent.control.updates.aio import Updates
from tailnet.agent.control.wishes import Wish
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.dates import Calendar
from tailnet.agent.errors import BadPacket, TailnetError, UserError
from tailnet.agent.keys import DiscoPublic
from tailnet.agent.tailcfg.codec import ZERO_TIME, encode
from tailnet.agent.tailcfg.mapping import ControlDialPlan, PingRequest
from tailnet.agent.tailcfg.node import Hostinfo, Node, NodeID
from tailnet.agent.tailcfg.register import RegisterResponse

__all__ = ["ControlClient", "ControlConfig"]

log = logging.getLogger("tailnet.control")

REGISTER_TIMEOUT = 30.0  # seconds; a login that waits for a person has none
LOGOUT_TIMEOUT = 5.0  # seconds
FORGET_AGAIN = 60.0  # seconds between two logins because an update was answered "unknown node"


class ControlClient:
    """Keeps one node registered and its network map current, until cancelled.

    Raises:
        UserError: ``server_url`` is not a URL.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        config: ControlConfig,
        *,
        on_event: Callable[[ControlEvent], None],
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        wall: Callable[[], datetime],
        calendar: Calendar,
        random_bytes: Callable[[int], bytes],
        answers: Answers | None = None,
    ) -> None:
        url = parse_server_url(config.server_url)
        self._authority = url.authority
        self._config = config
        self._on_event = on_event
        self._now = now
        self._wall = wall
        self._calendar = calendar
        self._random_bytes = random_bytes
        self._registration = Registration(config, random_bytes)
        self._dialer = Dialer(
            url,
            ca_file=config.ca_file,
            environ=config.environ,
            mark=mark,
            now=now,
            wall=wall,
            random_bytes=random_bytes,
        )
        if config.derp_map is not None:
            self._dialer.know_relays(config.derp_map)
        self._link = Link(self._dialer, config.machine_key)
        self._may_talk = asyncio.Event()  # described, and not logged out
        self._updates = Updates(
            url.authority,
            connect=self._link.connect,
            body=lambda: self._map_request(stream=False),
            allowed=self._may_talk,
            random_bytes=random_bytes,
            on_forgotten=self._forgotten_by_update,
        )
        self._answerer = Answerer(answers, self._dialer, self._link.connect)
        self._login_backoff = Backoff(random_bytes)
        self._map_backoff = Backoff(random_bytes)
        self._hostinfo = Hostinfo()
        self._endpoints: tuple[tuple[AddrPort, int], ...] = ()
        self._poked = asyncio.Event()
        self._logged_out = False
        self._peers: Mapping[NodeID, Node] = {}
        self._last_ping = ""
        self._resume: Resume | None = None
        self._following: tuple[MapSession, Stream] | None = None
        self._forgotten_at: float | None = None
        self._forgotten = False

    def update(self, hostinfo: Hostinfo, endpoints: tuple[tuple[AddrPort, int], ...]) -> None:
        """Describe this node; ``endpoints`` are addresses with their tailcfg endpoint type.

        Nothing is sent before the first description that has a ``backend_log_id``.
        """
        if (hostinfo, endpoints) != (self._hostinfo, self._endpoints):
            self._hostinfo, self._endpoints = hostinfo, endpoints
            self._updates.note()
        if hostinfo.backend_log_id and not self._logged_out:
            self._may_talk.set()

    async def rehearse(self) -> tuple[str, ...]:
        """Reach the server as for a session, under a machine key that nobody knows, and hang up.

        What was done and how long it took, in sentences; the last one says what went wrong.
        """
        return await rehearse(
            self._dialer, self._authority, now=self._now, random_bytes=self._random_bytes
        )

    def set_disco_key(self, key: DiscoPublic) -> None:
        """Tell control of another disco key."""
        self._config = dataclasses.replace(self._config, disco_key=key)
        self._updates.note()

    def poke(self) -> None:
        """Reconnect now: the link changed."""
        self._poked.set()
        self._link.drop("the network changed")

    def network_changed(self, addresses: Collection[IPAddress]) -> None:
        """Try again now what waits; what is connected from another address is lost.

        Everything else must answer within 5 s.
        """
        if self._following is None:
            self._poked.set()
        self._link.network_changed(addresses)

    async def ask(self, wish: Wish) -> dict[str, object]:
        """Ask the server for something; its answer.

        Raises:
            UserError: it refuses, or cannot be reached.
        """
        return await ask(self._link, self._authority, public_of(self._registration.node_key), wish)

    async def shorten(self, expiry: datetime) -> None:
        """Let the node key end earlier, at ``expiry``.

        Raises:
            UserError: the server refuses, or cannot be reached.
        """
        try:
            async with asyncio.timeout(WISH_TIMEOUT):
                step = await self._register(expiry)
        except (TailnetError, OSError) as error:
            raise not_reached(error) from None
        if isinstance(step, Refused | KeyRefused):
            raise UserError(step.message)

    async def run(self) -> None:
        """Log in and follow the map stream; retries until cancelled, or the auth key is refused."""
        try:
            while (response := await self._login()) is not None:
                self._emit(self._registration.registered(response))
                async with asyncio.TaskGroup() as group:
                    updates = group.create_task(self._updates.run(), name="control updates")
                    await self._follow()
                    updates.cancel()
        finally:
            await self._answerer.close()
            await self._link.close()

    async def logout(self) -> None:
        """Expire the node key at the server; gives up after about 5 s."""
        self._logged_out = True
        self._may_talk.clear()
        try:
            async with asyncio.timeout(LOGOUT_TIMEOUT):
                await self._register(LOGOUT_EXPIRY)
        except (TailnetError, OSError) as error:  # TimeoutError is an OSError
            log.warning("logged out here, but the server does not know: %s", error)
        await self._link.close()

    async def _login(self) -> RegisterResponse | None:
        """The server's yes; ``None`` if there will be none with the auth key at hand."""
        while True:
            await self._may_talk.wait()
            self._poked.clear()
            match await self._try_login():
                case Accepted(response=response):
                    self._login_backoff.reset()
                    return response
                case Visit(url=url):
                    self._emit(AuthURL(url))
                case Again():
                    pass
                case Pending():
                    await self._pause(self._login_backoff.fail())
                case KeyRefused(message=message):
                    self._emit(LoginFailed(message, retry_in=None, final=True))
                    return None
                case Refused(message=message, wait=wait, final=final, cause=cause):
                    delay = 0.0 if self._poked.is_set() else wait
                    delay = self._login_backoff.fail() if delay is None else delay
                    pending = self._registration.pending
                    self._emit(LoginFailed(message, delay, final, pending, cause))
                    await self._pause(delay)

    async def _try_login(self) -> Step:
        try:
            return await self._register(ZERO_TIME)
        except (TailnetError, OSError) as error:
            said = str(error) or "the control server does not answer"
            return Refused(said, cause=cause_of(error))

    async def _register(self, expiry: datetime) -> Step:
        request = self._registration.request(self._hostinfo, expiry=expiry)
        connection = await self._link.connect()
        async with asyncio.timeout(None if request.followup else REGISTER_TIMEOUT):
            reply = await connection.fetch(
                "POST", "/machine/register", self._authority, encode(request)
            )
        return self._registration.judge_untrusted(
            reply.status, reply.headers, reply.body, self._wall()
        )

    async def _follow(self) -> None:
        """Poll for ever; returns when a new login is needed."""
        while True:
            await self._may_talk.wait()
            self._poked.clear()
            self._forgotten = False
            try:
                ended = await self._poll()
            except (TailnetError, OSError) as error:
                if isinstance(error, BadPacket):
                    self._resume = None  # who knows what was understood
                reason = str(error) or "the control server does not answer"
                ended = Ended(reason, self._forgotten, cause=cause_of(error))
            delay = max(self._map_backoff.fail(), ended.wait)
            delay = 0.0 if self._poked.is_set() else delay
            self._emit(Disconnected(ended.reason, delay, ended.cause))
            await self._pause(delay)
            if ended.forgotten:
                self._registration.renew()
                self._resume = None
                return

    async def _poll(self) -> Ended:
        connection = await self._link.connect()
        session = MapSession(
            self._now(),
            self._calendar,
            compressed=True,
            before=self._peers,
            last_ping=self._last_ping,
            resume=self._resume,
        )
        body = self._map_request(stream=True)
        stream = connection.open("POST", "/machine/map", self._authority, body)
        try:
            async with asyncio.timeout(self._left(session)):
                status, headers = await stream.head()
                if status != 200:
                    text = one_line_untrusted(await stream.read_all(4 * MAX_ERROR_TEXT))
                    return Ended(
                        f"map answered {status}: {text}",
                        forgotten=says_unknown_node(status, text),
                        wait=retry_after(headers.get("retry-after", ""), self._wall()) or 0.0,
                    )
            self._updates.note()  # a stream's own request may not count as an update
            self._following = (session, stream)
            while await self._step(session, stream):
                pass
        finally:
            self._following = None
            stream.close()
        return Ended("the control server ended the map stream")

    async def _step(self, session: MapSession, stream: Stream) -> bool:
        try:
            async with asyncio.timeout(self._left(session)):
                chunk = await (self._poked.wait() if session.paused else stream.read())
        except TimeoutError:
            session.handle_timeout(self._now())
        else:
            if not chunk or chunk is True:
                return False
            session.receive_untrusted(chunk, self._now())
        while session.busy:
            await asyncio.sleep(0)
            session.go_on_untrusted()
        self._pump(session)
        return True

    def _pump(self, session: MapSession) -> None:
        """Tell what happened."""
        if session.established:
            self._map_backoff.reset()
            self._resume = session.resume
        while (event := session.poll_event()) is not None:
            if isinstance(event, PingRequest):
                self._last_ping = event.url
                self._answerer.handle(event)
                continue
            if isinstance(event, ControlDialPlan):
                self._dialer.plan = parse_candidates(event.candidates or ())
                continue
            if isinstance(event, NetmapChanged):
                self._peers = event.netmap.peers
                self._dialer.know_relays(event.netmap.derp_map)
            if isinstance(event, PopBrowser) and not is_valid_auth_url(
                event.url, self._config.server_url
            ):
                log.warning("the control server sent a URL that is not safe to open")
                continue
            self._emit(event)

    def _forgotten_by_update(self, reason: str) -> None:
        """An update was answered as if we did not exist, while the stream goes on: log in again.

        Headscale ends the stream of a deleted node much later.
        """
        now = self._now()
        if self._following is None or not self._following[0].established:
            return  # the poll itself will tell
        if self._forgotten_at is not None and now - self._forgotten_at < FORGET_AGAIN:
            return
        self._forgotten_at = now
        self._forgotten = True
        self._following[1].fail(reason)

    def _left(self, session: MapSession) -> float | None:
        at = session.next_timeout()
        return None if at is None else max(0.0, at - self._now())

    def _map_request(self, *, stream: bool) -> bytes:
        node_key, disco_key = self._registration.node_key, self._config.disco_key
        request = map_request(node_key, disco_key, self._hostinfo, self._endpoints, stream=stream)
        if stream and self._resume is not None:
            request = replace(
                request,
                map_session_handle=self._resume.handle,
                map_session_seq=self._resume.seq,
            )
        return encode(request)

    async def _pause(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._poked.wait()
        except TimeoutError:
            return

    def _emit(self, event: ControlEvent) -> None:
        if not self._logged_out:
            self._on_event(event)
