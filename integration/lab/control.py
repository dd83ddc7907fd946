"""A small real control server: for the lab, for tests, and for foreign nodes.

Outside it speaks HTTP/1.1 (``/key``, ``/ts2021``, ``/login/ID``, ``/pingresult/ID``); inside the
Noise connection HTTP/2 (``/machine/register``, ``/machine/map``, ``/machine/set-dns``,
``/c2n/ID``).
"""

import asyncio
import base64
import itertools
import logging
import ssl
from collections.abc import Callable
from datetime import datetime

import msgspec
from integration.lab.control_noise import NoiseServer, Request
from integration.lab.control_poll import Polls
from integration.lab.control_store import ALLOW_ALL, AuthKey, ControlSettings, Store

from tailnet.agent.control.http1 import HANDSHAKE_HEADER, UPGRADE
from tailnet.agent.control.wishes import SET_DNS, SetDNSRequest
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePublic
from tailnet.agent.noise.control import respond_untrusted
from tailnet.agent.tailcfg.codec import decode_untrusted, encode
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.mapping import MapRequest, MapResponse, PingRequest
from tailnet.agent.tailcfg.register import RegisterRequest, ServerKeys

__all__ = ["ALLOW_ALL", "AuthKey", "ControlServer", "ControlSettings"]

log = logging.getLogger("lab.control")

MIN_VERSION = 113
READ_ONLY_STREAMS = 68  # from this version on a stream's request is not an update
MAX_REQUEST = 64 << 10  # bytes of head or body outside


class ControlServer:
    """Start it, give nodes its URL, look at :meth:`nodes`.

    Attributes:
        port: where it listens, once started.
        store: what it knows.
        gone: unknown logins are answered with 410 rather than with a new URL.
        dns: TXT records that nodes have asked for, by name.
    """

    def __init__(
        self,
        settings: ControlSettings,
        *,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.settings = settings
        self.store = Store(settings, wall, random_bytes)
        self.port = 0
        self.origin = ""
        self.gone = False
        self.dns: dict[str, str] = {}
        self._now = now
        self._random_bytes = random_bytes
        self._polls = Polls(self.store, random_bytes)
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[object]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._answers: dict[str, asyncio.Queue[bytes]] = {}
        self._numbers = itertools.count(1)
        self._logins = asyncio.Condition()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen; port 0 picks one."""
        self._server = await asyncio.start_server(self._accept, host, port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://{host}:{self.port}"

    async def stop(self) -> None:
        """Close everything, at once."""
        if self._server is not None:
            self._server.close()
        self.drop_streams()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._polls.close()

    def nodes(self) -> list[dict[str, object]]:
        """All nodes, for people and tests."""
        return [
            {
                "id": r.id,
                "name": r.name,
                "addresses": list(r.addresses),
                "online": r.online,
                "endpoints": list(r.endpoints),
                "home": r.home,
                "key": str(r.key),
                "cap": r.cap,
                "ephemeral": r.ephemeral,
                "tags": list(r.tags),
                "authorized": r.authorized,
                "services": [[s.port, s.description] for s in r.hostinfo.services or ()],
                "streams": self._polls.opened[r.id],
                "resumed": self._polls.resumed[r.id],
            }
            for r in self.store.records.values()
        ]

    def set_packet_filter(self, rules: tuple[FilterRule, ...]) -> None:
        """Give every node these rules."""
        self.settings.packet_filter = rules
        self._polls.notify()

    def collect_services(self, *, wanted: bool) -> None:
        """Ask every node to tell who listens on its machine, or not to."""
        self.settings.collect_services = wanted
        self._polls.push_all(MapResponse(collect_services=wanted))

    def expire_key(self, node_id: int, left: float = 0.0) -> None:
        """End the life of a node's key, now or ``left`` seconds later."""
        self.store.expire(self.store.records[node_id], left)
        self._polls.notify()

    def delete(self, node_id: int, *, late: bool = False) -> None:
        """Forget a node; its polls fail from now on, its stream at once unless ``late``."""
        self.store.delete(self.store.records[node_id])
        if not late:
            self._polls.end(node_id)
        self._polls.notify()

    def drop_streams(self) -> None:
        """Cut every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    def snapshot(self) -> bytes:
        """State for :meth:`restore` of a later server with the same key."""
        return self.store.snapshot()

    def restore(self, data: bytes) -> None:
        """Take over the nodes of an earlier server; before :meth:`start`."""
        self.store.restore(data)

    async def approve(self, login: str) -> bool:
        """Finish an interactive login, as opening its URL does."""
        if login not in self.store.logins:
            return False
        self.store.logins[login] = True
        async with self._logins:
            self._logins.notify_all()
        return True

    async def forget_logins(self, *, gone: bool = False) -> None:
        """Lose all logins that are under way, as a restart may; ``gone`` answers them with 410."""
        self.gone = gone
        self.store.forget_logins()
        async with self._logins:
            self._logins.notify_all()

    def authorize(self, node_id: int) -> None:
        """Approve a node that waits for it."""
        self.store.authorize(self.store.records[node_id])
        self._polls.notify()

    def set_attributes(self, node_id: int, attributes: tuple[str, ...]) -> None:
        """Node attributes of one node."""
        self.store.set_attributes(self.store.records[node_id], attributes)
        self._polls.notify()

    def known_as(self, node_id: int, addresses: list[str]) -> None:
        """By which addresses a peer knows whoever talks to it."""
        self.store.known_as(self.store.records[node_id], addresses)
        self._polls.notify()

    def add_wireguard(
        self, name: str, key: NodePublic, endpoints: list[str], routes: list[str]
    ) -> str:
        """A peer without Tailscale at these addresses; its own IPv4 address in the tailnet."""
        record = self.store.add_wireguard(name, key, endpoints, routes)
        self._polls.notify()
        return record.addresses[0]

    async def ping(self, node_id: int, types: str, ip: str) -> dict[str, object]:
        """Let a node ping a peer and report; waits until it does."""
        path = f"/pingresult/{next(self._numbers)}"
        request = PingRequest(url=f"{self.origin}{path}", types=types, ip=ip, log=True)
        answer = await self._ask(node_id, path, request)
        return dict(msgspec.json.decode(answer, type=dict[str, object]))

    async def pings(
        self, node_id: int, types: str, ip: str, *, noise: bool = True
    ) -> list[dict[str, object]]:
        """Let a node ping a peer with several types; all its reports, in order."""
        path = f"/pingresult/{next(self._numbers)}"
        request = PingRequest(
            url=f"{self.origin}{path}", url_is_noise=noise, types=types, ip=ip, log=True
        )
        return [
            dict(msgspec.json.decode(answer, type=dict[str, object]))
            for answer in await self._ask_for(node_id, path, request, types.count(",") + 1)
        ]

    async def is_alive(self, node_id: int, *, noise: bool) -> None:
        """Ask a node for a sign of life, within the Noise connection or outside; wait for it."""
        path = f"/machine/ping-response/{next(self._numbers)}"
        await self._ask(node_id, path, PingRequest(url=f"{self.origin}{path}", url_is_noise=noise))

    def push(self, node_id: int, message: MapResponse) -> None:
        """Send a node any message."""
        self._polls.push(node_id, message)

    async def c2n(self, node_id: int, request: bytes) -> bytes:
        """Let a node answer an HTTP/1.1 request; returns its raw response."""
        path = f"/c2n/{next(self._numbers)}"
        payload = base64.b64encode(request).decode()
        ping = PingRequest(
            url=f"https://unused{path}", url_is_noise=True, types="c2n", payload=payload
        )
        return await self._ask(node_id, path, ping)

    async def _ask(self, node_id: int, path: str, ping: PingRequest) -> bytes:
        (answer,) = await self._ask_for(node_id, path, ping, 1)
        return answer

    async def _ask_for(self, node_id: int, path: str, ping: PingRequest, count: int) -> list[bytes]:
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._answers[path] = answers
        try:
            self._polls.push(node_id, MapResponse(ping_request=ping, keep_alive=True))
            return [await answers.get() for _ in range(count)]
        finally:
            del self._answers[path]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if (task := asyncio.current_task()) is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        try:
            await self._outer(reader, writer)
        except (OSError, BadPacket, ValueError, asyncio.IncompleteReadError) as error:
            log.debug("connection ended: %s", error)
        except asyncio.LimitOverrunError:
            log.debug("head of a request too long")
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _outer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        fields = {k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)}
        path = target.partition("?")[0]
        length = int(fields.get("content-length") or 0)
        body = await reader.readexactly(min(length, MAX_REQUEST))
        if path == "/ts2021":
            await self._ts2021(method, fields, reader, writer)
            return
        status, kind, answer = await self._page(method, path, body)
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(answer)}\r\nConnection: close\r\n\r\n".encode()
            + answer
        )
        await writer.drain()
        writer.write_eof() if writer.can_write_eof() else None
        writer.close()
        await writer.wait_closed()

    async def _page(self, method: str, path: str, body: bytes) -> tuple[str, str, bytes]:
        if path == "/key":
            keys = ServerKeys(public_key=public_of(self.settings.server_key))
            return "200 OK", "application/json", encode(keys)
        if path == "/derpmap.json":
            return "200 OK", "application/json", encode(self.settings.derp_map)
        if path.startswith("/login/") and await self.approve(path.rpartition("/")[2]):
            return "200 OK", "text/plain", b"This machine may join now.\n"
        if path in self._answers and method in {"POST", "HEAD"}:
            self._answer(path, body)
            return "200 OK", "text/plain", b""
        if path == "/generate_204":
            return "204 No Content", "text/plain", b""
        return "404 Not Found", "text/plain", b"not found\n"

    def _answer(self, path: str, body: bytes) -> None:
        self._answers[path].put_nowait(body)

    async def _ts2021(
        self,
        method: str,
        fields: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        handshake = fields.get(HANDSHAKE_HEADER.lower(), "")
        if method != "POST" or fields.get("upgrade", "").lower() != UPGRADE or not handshake:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {UPGRADE}\r\n"
            "Connection: upgrade\r\n\r\n".encode()
        )
        accepted = respond_untrusted(
            base64.b64decode(handshake, validate=True),
            self.settings.server_key,
            self._random_bytes(32),
        )
        early = encode({"nodeKeyChallenge": f"chalpub:{self._random_bytes(32).hex()}"})
        noise = NoiseServer(reader, writer, accepted, early, self._inner)
        await noise.serve()

    async def _inner(self, request: Request) -> None:
        if request.path == "/machine/register":
            await self._register(request)
        elif request.path == "/machine/map":
            await self._map(request)
        elif request.path in self._answers:
            self._answer(request.path, request.body)
            request.reply(200, b"")
        elif request.path == SET_DNS:
            self._set_dns(request)
        elif request.path == "/machine/id-token":
            self._id_token(request)
        elif request.path == "/machine/update-health":
            request.reply(204, b"")
        else:
            request.reply(404, b"not found\n")

    async def _register(self, request: Request) -> None:
        message = decode_untrusted(request.body, RegisterRequest)
        login = message.followup.rpartition("/")[2]
        async with self._logins:
            while self.store.logins.get(login) is False:
                await self._logins.wait()
        if login and self.gone and login not in self.store.logins:
            request.reply(410, b"auth path not found\n")
            return
        response = self.store.register(message, request.machine, self.origin)
        self._polls.notify()
        request.reply(200, encode(response))

    def _id_token(self, request: Request) -> None:
        """No real one: nobody here would check it."""
        message = msgspec.json.decode(request.body)
        record = self.store.by_key(NodePublic.parse(message["NodeKey"]))
        if record is None or record.machine != request.machine:
            request.reply(404, b"node not found\n")
        else:
            token = f"lab.{message['Audience']}.{record.name}"
            request.reply(200, msgspec.json.encode({"id_token": token}))

    def _set_dns(self, request: Request) -> None:
        message = decode_untrusted(request.body, SetDNSRequest)
        record = self.store.by_key(message.node_key)
        if record is None or record.machine != request.machine:
            request.reply(404, b"node not found\n")
        elif not message.name.endswith(f".{record.name}.{self.settings.domain}"):
            request.reply(403, b"that name belongs to somebody else\n")
        else:
            self.dns[message.name] = message.value
            request.reply(200, b"{}")

    async def _map(self, request: Request) -> None:
        message = decode_untrusted(request.body, MapRequest)
        record = self.store.by_key(message.node_key)
        if record is None or record.machine != request.machine:
            request.reply(404, b"node not found\n")
            return
        if message.version < MIN_VERSION:
            text = f"unsupported client version: {message.version}\n"
            request.reply(400, text.encode())
            return
        if not (message.stream and message.version >= READ_ONLY_STREAMS) and not message.read_only:
            self.store.update(record, message)
            self._polls.notify()
        compress = message.compress == "zstd"
        if message.stream:
            await self._polls.follow(record, request, message, compress=compress)
        elif message.omit_peers:
            request.reply(200, b"")
        else:
            request.reply(200, self._polls.one_shot(record, compress=compress))
