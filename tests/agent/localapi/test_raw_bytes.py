"""Any bytes at the socket: an answer or silence, never a traceback, never a daemon that is gone."""

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.fake_backend import FakeBackend

from tailnet.agent.localapi.aio import LocalServer
from tailnet.agent.localapi.routes import LATER, ROUTES
from tailnet.agent.localapi.schema.basics import BASE, HOST

NAMES = [*ROUTES, *LATER, "profiles/x", "cert/x", "nothing"]
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")
SENSIBLE = {  # 100 to who expects it (RFC 9110 section 10.1.1)
    100, 101, 200, 201, 204,
    400, 403, 404, 405, 408, 411, 413, 415, 417, 431, 500, 501, 502, 503, 505,
}  # fmt: skip

hosts = st.sampled_from([b"Host: " + HOST.encode() + b"\r\n", b"Host: x\r\n", b"Host: \r\n", b""])
targets = st.one_of(
    st.sampled_from(NAMES).map(lambda name: (BASE + name).encode()),
    st.tuples(st.sampled_from(NAMES), st.binary(max_size=12)).map(
        lambda pair: (BASE + pair[0] + "?mask=2&").encode() + pair[1]
    ),
    st.binary(max_size=20),
    st.sampled_from([b"/", b"*", b"http://x/", b"//", b"/%00", b"/" + b"a" * 40_000]),
)
methods = st.sampled_from(
    [b"GET", b"POST", b"PATCH", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"\0"]
)
fields = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"Content-Length: 2\r\n",
                b"Content-Length: 99999999\r\n",
                b"Content-Length: -1\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Expect: 100-continue\r\n",
                b"Upgrade: ts-dial\r\nConnection: upgrade\r\nDial-Host: a\r\nDial-Port: 1\r\n",
                b"Origin: http://x\r\n",
                b" folded\r\n",
            ]
        ),
        st.binary(max_size=30),
    ),
    max_size=3,
).map(b"".join)
bodies = st.one_of(
    st.sampled_from([b"", b"{}", b"[]", b"2\r\n{}\r\n0\r\n\r\n", b"[" * 5000]),
    st.binary(max_size=40),
)
requests = st.builds(
    lambda m, t, h, f, b: m + b" " + t + b" HTTP/1.1\r\n" + h + f + b"\r\n" + b,
    methods,
    targets,
    hosts,
    fields,
    bodies,
)
talks = st.lists(st.one_of(requests, st.binary(max_size=60)), min_size=1, max_size=4)


async def said(path: Path, pieces: list[bytes]) -> bytes:
    """All that comes back until the end, which must come."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            writer.write_eof()
            return await reader.read()
        except ConnectionError:  # it had heard enough
            return b""
        finally:
            writer.close()


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Whatever is logged as one."""
    caplog.set_level(logging.ERROR)
    yield caplog
    assert not caplog.records


@given(pieces=talks)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_answered_or_not_and_the_next_client_is_served(
    tmp_path: Path, errors: pytest.LogCaptureFixture, pieces: list[bytes]
) -> None:
    """Whoever comes next finds everything as it was."""

    async def talk() -> None:
        server = LocalServer(FakeBackend(), tmp_path / "s", peer_uid=lambda _: 0)
        await server.start()
        try:
            data = await said(tmp_path / "s", pieces)
            assert not data or ANSWER.match(data), data[:200]
            assert {int(status) for status in ANSWER.findall(data)} <= SENSIBLE
            status = f"GET {BASE}status HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
                writer.write(status.encode())
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
                writer.close()
        finally:
            await server.close()

    asyncio.run(talk())
    assert not errors.records, errors.text


async def test_the_head_of_a_refused_request_has_no_body_either(
    tmp_path: Path, errors: pytest.LogCaptureFixture
) -> None:
    """A target that makes no sense, asked for by HEAD; found by the bytes above."""
    server = LocalServer(FakeBackend(), tmp_path / "s", peer_uid=lambda _: 0)
    await server.start()
    answer = await said(tmp_path / "s", [b"HEAD /%ff HTTP/1.1\r\nHost: \r\n\r\n"])
    await server.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")
    assert not errors.records
