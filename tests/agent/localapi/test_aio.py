"""The LocalAPI on a real unix socket."""

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.fake_backend import FakeBackend
from tests.support.http_client import HttpClient

from tailnet.agent.addr import AddrPort
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.errors import UserError
from tailnet.agent.localapi import aio
from tailnet.agent.localapi.aio import LocalServer, peer_uid
from tailnet.agent.localapi.exchange import MAX_REASON, Response
from tailnet.agent.localapi.schema.basics import BASE, HOST
from tailnet.agent.localapi.schema.bus import FELL_BEHIND, Notify
from tailnet.agent.localapi.upgrades import parse_dial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the socket will be."""
    return tmp_path / "run" / "tailnetd.sock"


class Caller:
    """Who the other end is said to be."""

    uid: int | None = 0

    def __call__(self, _: socket.socket) -> int | None:
        """In place of ``peer_uid``."""
        return self.uid


@pytest.fixture
def caller() -> Caller:
    """Root, unless the test says otherwise."""
    return Caller()


@pytest.fixture
def backend() -> FakeBackend:
    """What is served."""
    return FakeBackend()


@pytest.fixture
async def server(backend: FakeBackend, path: Path, caller: Caller) -> AsyncIterator[LocalServer]:
    """A running server."""
    server = LocalServer(backend, path, version="1.2.3", peer_uid=caller)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
def client(server: LocalServer, path: Path) -> HttpClient:
    """Someone who talks to it."""
    return HttpClient(path, HOST)


async def test_status_and_headers(client: HttpClient) -> None:
    """The headers say who answers, and keep browsers from doing anything with it."""
    response = await client.request("GET", f"{BASE}status")
    assert response.status == 200
    assert response.headers["tailscale-version"] == "1.2.3"
    assert response.headers["tailscale-cap"].isdecimal()
    assert response.headers["x-frame-options"] == "DENY"
    assert json.loads(response.body)["BackendState"] == "Stopped"


async def test_strangers_read_and_do_not_write(client: HttpClient, caller: Caller) -> None:
    """403 in text; without credentials not even reading."""
    caller.uid = 12345
    response = await client.request("GET", f"{BASE}prefs")
    assert response.status == 200
    response = await client.request("PATCH", f"{BASE}prefs", body=b"{}")
    assert (response.status, response.text) == (403, "prefs write access denied")
    caller.uid = None
    response = await client.request("GET", f"{BASE}prefs")
    assert response.status == 403


async def test_the_operator_writes(
    client: HttpClient, caller: Caller, backend: FakeBackend
) -> None:
    """By name; a name that no user has helps nobody."""
    caller.uid = 65534
    edit = b'{"Hostname": "box", "HostnameSet": true}'
    for operator, status in (("", 403), ("no-such-user-here", 403), ("nobody", 200), ("", 403)):
        backend.current = Prefs(operator_user=operator, logged_out=False)
        response = await client.request("PATCH", f"{BASE}prefs", body=edit)
        assert response.status == status


async def test_web_pages_are_refused(client: HttpClient) -> None:
    """Whatever they ask for."""
    for headers in ({"Host": "evil"}, {"Origin": "null"}, {"Referer": "http://x/"}):
        response = await client.request("GET", f"{BASE}status", headers=headers)
        assert response.status == 403


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused(
    client: HttpClient, backend: FakeBackend, chunked: bool
) -> None:
    """413 above 1 MiB, whether it is announced or not."""
    response = await client.request("PATCH", f"{BASE}prefs", body=bytes(2 << 20), chunked=chunked)
    assert response.status == 413
    assert backend.calls == []


async def test_the_users_mistakes_are_400(client: HttpClient, backend: FakeBackend) -> None:
    """With the backend's own words."""

    def refuse() -> None:
        msg = "no"
        raise UserError(msg)

    backend.on_start = refuse
    response = await client.request("POST", f"{BASE}start", body=b"{}")
    assert (response.status, response.text) == (400, "no")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("bW92aW5nIGhvdXNl", "who says: 'moving house'"),
        ("G1szMW3ihpI=", "who says: '[31m\u2192'"),  # without the escape
        ("YWFhYWFhYWFh" * 100, f"who says: '{'a' * MAX_REASON}'"),
        ("A" * 4000, None),  # zeros
        ("no base64", None),
        ("/w==", None),  # no UTF-8
    ],
)
async def test_a_reason_is_in_the_log(
    client: HttpClient, caplog: pytest.LogCaptureFixture, header: str, said: str | None
) -> None:
    """With who gave it; what is none is passed over."""
    caplog.set_level("INFO")
    reason = {"X-Tailscale-Reason": header}
    response = await client.request("POST", f"{BASE}logout", headers=reason)
    assert response.status == 204
    assert ("who says" in caplog.text) is (said is not None)
    if said is not None:
        assert f"POST {BASE}logout of user " in caplog.text
        assert said in caplog.text


async def test_who_may_only_read_has_no_reason(
    client: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may change nothing is not to fill the log either."""
    caplog.set_level("INFO")
    reason = {"X-Tailscale-Reason": "bW92aW5nIGhvdXNl"}
    assert (await client.request("GET", f"{BASE}status", headers=reason)).status == 200
    assert "who says" not in caplog.text


async def test_our_own_mistakes_are_500(
    client: HttpClient, backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is not left waiting, the log has the details."""

    def fail() -> None:
        raise ZeroDivisionError

    backend.on_start = fail
    response = await client.request("POST", f"{BASE}start", body=b"{}")
    assert response.status == 500
    assert "ZeroDivisionError" in caplog.text


async def test_the_bus_streams_a_line_per_notify(client: HttpClient, backend: FakeBackend) -> None:
    """State and prefs first when asked, then what is published; the end when the backend ends."""
    async with client.stream(f"{BASE}watch-ipn-bus?mask=6") as response:
        first = json.loads(await response.readline())
        assert (first["State"], first["Prefs"]["CorpDNS"]) == (4, True)
        assert len(bytes.fromhex(first["SessionID"])) == 8
        backend.bus.publish(Notify(state=6))
        assert json.loads(await response.readline())["State"] == 6
        backend.bus.close()
        assert await response.readline() == b""


async def test_a_watcher_that_leaves_is_forgotten(client: HttpClient, backend: FakeBackend) -> None:
    """At once, not at the next message."""
    gone = asyncio.Event()
    async with client.stream(f"{BASE}watch-ipn-bus") as response:
        await response.readline()
        (watcher,) = backend.bus._watchers
        watcher.on_ready(gone.set)
    async with asyncio.timeout(5):
        await gone.wait()
    assert len(backend.bus) == 0


async def test_a_watcher_that_is_too_slow_is_told(client: HttpClient, backend: FakeBackend) -> None:
    """The last line says why it ends."""
    async with client.stream(f"{BASE}watch-ipn-bus") as response:
        await response.readline()
        for _ in range(200):
            backend.bus.publish(Notify(state=6))
        lines = [line async for line in response]
    assert json.loads(lines[-1])["ErrMessage"] == FELL_BEHIND


async def test_watches_end_with_the_server(
    server: LocalServer, client: HttpClient, backend: FakeBackend
) -> None:
    """At once and in order, although nothing was published."""
    async with client.stream(f"{BASE}watch-ipn-bus") as response:
        await response.readline()
        async with asyncio.timeout(aio.SHUTDOWN_TIMEOUT / 2):
            await server.close()
            assert await response.readline() == b""
    assert len(backend.bus) == 0


async def test_bad_masks_are_400(client: HttpClient) -> None:
    """In text."""
    response = await client.request("GET", f"{BASE}watch-ipn-bus?mask=x")
    assert (response.status, response.text) == (400, "bad mask")


async def test_one_user_cannot_take_all_connections(
    client: HttpClient, path: Path, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root still gets in."""
    monkeypatch.setattr(aio, "MAX_CONNECTIONS_PER_USER", 3)
    caller.uid = 12345
    loop = asyncio.get_running_loop()
    taken = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for sock in taken:
        sock.setblocking(False)
        await loop.sock_connect(sock, str(path))
    async with asyncio.timeout(5):
        assert (await loop.sock_recv(taken[3], 100)).startswith(b"HTTP/1.1 503 ")
    caller.uid = 0
    response = await client.request("GET", f"{BASE}status")
    assert response.status == 200
    for sock in taken:
        sock.close()


async def test_the_socket_is_open_to_all_and_goes_away(backend: FakeBackend, path: Path) -> None:
    """0666 in 0755; who may do what is decided per request.  Nothing stays behind."""
    server = LocalServer(backend, path)
    await server.start()
    assert [stat.S_IMODE(os.stat(p).st_mode) for p in (path, path.parent)] == [0o666, 0o755]
    await server.close()
    await server.close()
    assert os.listdir(path.parent) == []


async def test_a_living_daemon_is_left_alone(
    server: LocalServer, client: HttpClient, backend: FakeBackend, path: Path
) -> None:
    """The second one says so, and the first one still answers."""
    second = LocalServer(backend, path)
    with pytest.raises(UserError, match=f"another tailnetd is running .socket {path}"):
        await second.start()
    await second.close()
    response = await client.request("GET", f"{BASE}status")
    assert response.status == 200


async def test_a_socket_of_someone_else_is_left_alone(backend: FakeBackend, path: Path) -> None:
    """It answers: it is not stale, lock or no lock."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(UserError, match="another tailnetd"):
            await LocalServer(backend, path).start()
    assert os.listdir(path.parent) == [path.name]


async def test_a_stale_socket_is_replaced(backend: FakeBackend, path: Path) -> None:
    """What a killed daemon leaves is no obstacle."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = LocalServer(backend, path)
    await server.start()
    await server.close()


@pytest.mark.parametrize("name", ["file", "x" * 120, "missing"])
async def test_a_socket_that_cannot_be_made_is_explained(
    backend: FakeBackend, tmp_path: Path, name: str
) -> None:
    """A file in its place, a path that is too long, a parent that is a file."""
    (tmp_path / "file").write_text("precious")
    path = tmp_path / name if name != "missing" else tmp_path / "file" / "sock"
    with pytest.raises(UserError, match="--socket"):
        await LocalServer(backend, path).start()
    assert (tmp_path / "file").read_text() == "precious"
    assert os.listdir(tmp_path) == ["file"]


def test_credentials_are_the_kernels() -> None:
    """For a pair of our own, our own."""
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert peer_uid(one) == os.geteuid()
    with socket.socket(socket.AF_INET) as other:
        assert peer_uid(other) in (None, 0xFFFFFFFF)


class Echo:
    """A connection whose bytes come back."""

    def __init__(self, host: str, port: int) -> None:
        self.local = AddrPort.parse("100.64.0.1:4000")
        self.aborted = False

    def join(self, fd: int, early: bytes) -> None:
        """In a thread, until the other side ends."""
        threading.Thread(target=self._run, args=(socket.socket(fileno=fd), early)).start()

    def abort(self) -> None:
        """Noted."""
        self.aborted = True

    @staticmethod
    def _run(sock: socket.socket, early: bytes) -> None:
        sock.setblocking(True)
        with sock:
            sock.sendall(early)
            while data := sock.recv(1000):
                sock.sendall(data)


DIAL = (
    f"POST {BASE}dial HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: ts-dial\r\n"
    "Dial-Host: h2\r\nDial-Port: 22\r\nDial-Network: tcp\r\n\r\n"
).encode()


async def test_dial_turns_the_request_into_the_connection(
    server: LocalServer, backend: FakeBackend, path: Path
) -> None:
    """101, then bytes both ways until both have ended."""
    backend.on_dial = Echo
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(DIAL + b"early, ")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: ts-dial\r\n" in head
    writer.write(b"there and back")
    writer.write_eof()
    assert await reader.read() == b"early, there and back"
    assert ("dial", "h2", 22) in backend.calls
    writer.close()


async def test_a_dial_that_fails_says_why(server: LocalServer, path: Path) -> None:
    """As plain HTTP."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(DIAL)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert await reader.readexactly(24) == b"h2:22: connection refused"[:24]
    writer.close()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"upgrade": "websocket", "dial-host": "h2", "dial-port": "22"},
        {"upgrade": "ts-dial", "dial-host": "h2", "dial-port": "0"},
        {"upgrade": "ts-dial", "dial-host": "h2", "dial-port": "٣"},
        {"upgrade": "ts-dial", "dial-port": "22"},
        {"upgrade": "ts-dial", "dial-host": "h" * 256, "dial-port": "22"},
        {"upgrade": "ts-dial", "dial-host": "h2", "dial-port": "65536"},
        {"upgrade": "ts-dial", "dial-host": "h2", "dial-port": "22", "dial-network": "udp"},
    ],
)
def test_a_dial_needs_a_target(headers: dict[str, str]) -> None:
    """And the right protocol."""
    answer = parse_dial(headers)
    assert isinstance(answer, Response)
    assert answer.status == 400


def test_a_dial_may_go_to_any_name_and_port() -> None:
    """The longest and the highest, too."""
    for host, port in (("h", 1), ("h" * 255, 0xFFFF)):
        headers = {"upgrade": "TS-Dial", "dial-host": host, "dial-port": str(port)}
        assert parse_dial(headers) == (host, port)
