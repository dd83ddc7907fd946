"""One connection, many requests; the server's end is a bare ``h2``, and time is virtual.

::

    Connection ── records ── socket pair ── records ── h2.connection.H2Connection
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from tests.support.virtual import run
from tests.vectors import control_noise as v

from tailnet.agent.control.channel import Channel
from tailnet.agent.control.conn.aio import Connection
from tailnet.agent.control.liveness import ANSWER, IDLE, QUICK_ANSWER, Liveness
from tailnet.agent.control.records import RecordStream, early_payload
from tailnet.agent.errors import LocalProtocolError, RemoteProtocolError, TailnetError
from tailnet.agent.noise.control import TransportKeys

CLIENT = TransportKeys(send=v.CLIENT_TO_SERVER, receive=v.SERVER_TO_CLIENT, hash=bytes(32))
SERVER = TransportKeys(send=v.SERVER_TO_CLIENT, receive=v.CLIENT_TO_SERVER, hash=bytes(32))


class Server:
    """Reads what the client sends; answers only as the test says.

    Attributes:
        events: what ``h2`` made of it.
        deaf: nothing that the client sends is read any more.
    """

    def __init__(self, sock: socket.socket, early: bytes | None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._records = RecordStream(SERVER)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self._early = b"" if early is None else early_payload(early)
        self.events: list[h2.events.Event] = []
        self.deaf = False
        self._news = asyncio.Event()
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Until the client closes."""
        loop = asyncio.get_running_loop()
        await self.flush()
        while not self.deaf and (data := await loop.sock_recv(self._sock, 65536)):
            self.events += self.h2.receive_data(self._records.open_untrusted(data))
            self._news.set()
            await self.flush()
        self._news.set()

    async def flush(self) -> None:
        """Send what ``h2`` has to say."""
        await self.send(b"")

    async def send(self, more: bytes) -> None:
        """The same, and then any bytes."""
        async with self._sending:
            plain, self._early = self._early + self.h2.data_to_send() + more, b""
            sealed = self._records.seal(plain)
            await asyncio.get_running_loop().sock_sendall(self._sock, sealed)

    async def heard(self, kind: type[h2.events.Event], count: int = 1) -> list[h2.events.Event]:
        """The first ``count`` events of a kind."""
        while len(found := [e for e in self.events if isinstance(e, kind)]) < count:
            self._news.clear()
            await self._news.wait()
        return found[:count]

    async def requests(self, count: int) -> list[int]:
        """Numbers of the first streams."""
        return [int(vars(e)["stream_id"]) for e in await self.heard(h2.events.StreamEnded, count)]

    async def answer(self, stream: int, body: bytes) -> None:
        """A whole response."""
        self.h2.send_headers(stream, [(":status", "200")])
        self.h2.send_data(stream, body, end_stream=True)
        await self.flush()


Scene = Callable[[Connection, Server], Awaitable[None]]


def play(scene: Scene, early: bytes | None = b"{}") -> None:
    """Run a scene in virtual time."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(sock=ours)
        connection = Connection(reader, writer, Channel(CLIENT, client=True), b"", loop.time)
        server = Server(theirs, early)
        connection.start()
        with theirs:
            serving = asyncio.create_task(server.serve())
            try:
                async with asyncio.timeout(3600):
                    await scene(connection, server)
            finally:
                serving.cancel()
                await connection.aclose()
                await asyncio.gather(serving, return_exceptions=True)

    run(main())


@pytest.mark.parametrize("early", [None, b"{}", b'{"nodeKeyChallenge":"chalpub:00"}'])
def test_many_requests_are_under_way_at_once(early: bytes | None) -> None:
    """Whatever comes before HTTP/2; answers come in the order the server likes."""

    async def scene(connection: Connection, server: Server) -> None:
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(connection.fetch("POST", f"/{i}", "unused", b"x"))
                for i in range(20)
            ]
            for stream in reversed(await server.requests(20)):
                await server.answer(stream, b"%d" % stream)
        assert {task.result().body for task in asked} == {b"%d" % (2 * i + 1) for i in range(20)}

    play(scene, early)


def test_goodbye_lets_the_running_requests_finish() -> None:
    """GOAWAY: what came before goes on, later ones fail, new ones are refused."""

    async def scene(connection: Connection, server: Server) -> None:
        first = connection.open("POST", "/machine/map", "unused", b"x")
        second = connection.open("POST", "/late", "unused", b"x")
        one, _ = await server.requests(2)
        server.h2.send_headers(one, [(":status", "200")])
        server.h2.send_data(one, b"before ")
        await server.send(b"\0\0\x08\x07\0\0\0\0\0" + one.to_bytes(4, "big") + bytes(4))
        with pytest.raises(RemoteProtocolError, match="goodbye"):
            await second.head()
        assert connection.alive
        assert not connection.usable
        with pytest.raises(LocalProtocolError):
            connection.open("GET", "/", "unused", b"")
        server.h2.send_data(one, b"after", end_stream=True)
        await server.flush()
        assert await first.read_all(100) == b"before after"
        first.close()
        second.close()
        assert not connection.alive

    play(scene)


def test_a_ping_is_answered() -> None:
    """With its own bytes."""

    async def scene(_: Connection, server: Server) -> None:
        server.h2.ping(b"12345678")
        await server.flush()
        (ack,) = await server.heard(h2.events.PingAckReceived)
        assert isinstance(ack, h2.events.PingAckReceived)
        assert ack.ping_data == b"12345678"

    play(scene)


def test_a_silent_connection_is_asked_and_kept() -> None:
    """A PING each minute, which ``h2`` answers."""

    async def scene(connection: Connection, server: Server) -> None:
        await asyncio.sleep(10 * IDLE)
        assert connection.usable
        pings = [e for e in server.events if isinstance(e, h2.events.PingReceived)]
        assert 9 <= len(pings) <= 10

    play(scene)


def test_a_dead_connection_ends_its_requests() -> None:
    """Nobody answers the PING: the error says so, after the two waits."""

    async def scene(connection: Connection, server: Server) -> None:
        stream = connection.open("POST", "/machine/map", "unused", b"x")
        await server.requests(1)
        server.deaf = True
        began = asyncio.get_running_loop().time()
        with pytest.raises(RemoteProtocolError, match="does not answer"):
            await stream.head()
        assert IDLE + ANSWER <= asyncio.get_running_loop().time() - began <= IDLE + ANSWER + 1
        assert not connection.alive

    play(scene)


def test_settings_may_change_while_a_body_waits() -> None:
    """A larger window lets the rest of a request pass."""

    async def scene(connection: Connection, server: Server) -> None:
        server.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        await server.flush()
        await server.heard(h2.events.SettingsAcknowledged, 2)
        stream = connection.open("POST", "/x", "unused", bytes(100_000))
        await server.heard(h2.events.RequestReceived)
        assert not [e for e in server.events if isinstance(e, h2.events.DataReceived)]
        server.h2.increment_flow_control_window(1 << 20)
        server.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        await server.flush()
        (number,) = await server.requests(1)
        assert (
            sum(len(e.data or b"") for e in server.events if isinstance(e, h2.events.DataReceived))
            == 100_000
        )
        await server.answer(number, b"all")
        assert (await stream.head())[0] == 200
        stream.close()

    play(scene)


def test_a_full_connection_takes_no_more() -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS: the next request belongs on another connection."""

    async def scene(connection: Connection, server: Server) -> None:
        server.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        await server.flush()
        await server.heard(h2.events.SettingsAcknowledged, 2)
        usable = [connection.usable]
        stream = connection.open("POST", "/x", "unused", b"x")
        usable.append(connection.usable)
        (number,) = await server.requests(1)
        await server.answer(number, b"")
        assert await stream.read_all(1) == b""
        stream.close()
        assert [*usable, connection.usable] == [True, False, True]

    play(scene)


def test_a_reset_request_fails_alone() -> None:
    """RST_STREAM; the connection stays."""

    async def scene(connection: Connection, server: Server) -> None:
        one = connection.open("POST", "/1", "unused", b"x")
        two = connection.open("POST", "/2", "unused", b"x")
        first, second = await server.requests(2)
        server.h2.reset_stream(first, h2.errors.ErrorCodes.REFUSED_STREAM)
        await server.answer(second, b"fine")
        with pytest.raises(TailnetError, match="reset"):
            await one.head()
        assert await two.read_all(10) == b"fine"
        one.close()
        two.close()
        assert connection.usable

    play(scene)


def test_a_large_answer_is_read_while_another_stream_is_not() -> None:
    """Flow control on our side: 20 MiB pass one stream, 3 MiB wait in another."""

    async def scene(connection: Connection, server: Server) -> None:
        lazy = connection.open("POST", "/lazy", "unused", b"x")
        busy = connection.open("POST", "/busy", "unused", b"x")
        first, second = await server.requests(2)
        for number in (first, second):
            server.h2.send_headers(number, [(":status", "200")])

        async def feed(number: int, size: int) -> None:
            while size:
                room = min(
                    server.h2.local_flow_control_window(number),
                    server.h2.max_outbound_frame_size,
                    size,
                )
                if room <= 0:
                    await asyncio.sleep(0.01)
                    continue
                server.h2.send_data(number, bytes(room))
                size -= room
                await server.flush()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed(first, 3 << 20))
            group.create_task(feed(second, 20 << 20))
            got = 0
            while got < 20 << 20:
                got += len(await busy.read())
        lazy.close()
        busy.close()

    play(scene)


def test_liveness_counts_from_the_last_byte() -> None:
    """No PING while something comes."""
    one = Liveness(0.0)
    one.heard(50.0)
    assert one.next_timeout() == 50.0 + IDLE
    assert not one.handle_timeout(IDLE)
    assert one.handle_timeout(50.0 + IDLE)
    one.heard(51.0 + IDLE)
    assert one.next_timeout() == 51.0 + 2 * IDLE
    assert one.handle_timeout(51.0 + 2 * IDLE)
    with pytest.raises(RemoteProtocolError):
        one.handle_timeout(one.next_timeout())


def test_after_a_change_of_the_network_an_answer_is_waited_for_shortly() -> None:
    """Whatever comes counts as one; a time that was nearer stays."""
    one = Liveness(0.0)
    one.ask(10.0)
    assert one.next_timeout() == 10.0 + QUICK_ANSWER
    with pytest.raises(RemoteProtocolError):
        one.handle_timeout(10.0 + QUICK_ANSWER)
    two = Liveness(0.0)
    two.ask(10.0)
    two.heard(11.0)
    assert two.next_timeout() == 11.0 + IDLE
    assert two.handle_timeout(11.0 + IDLE)
    three = Liveness(0.0)
    three.ask(IDLE - 0.1)
    assert three.next_timeout() == IDLE
