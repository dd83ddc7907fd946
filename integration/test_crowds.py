"""Two hundred programs follow one daemon, beside one that reads nothing."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from integration.lab.host import Host
from integration.lab.lab import Lab

from tailnet.agent.localapi.schema.basics import BASE, HOST
from tailnet.client import Client

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

WATCHERS = 200
CHANGES = 200  # more than a watcher's queue and the socket hold
LARGE = [f"192.0.2.{number}:4{number:04}" for number in range(1, 251)]  # 5 KB of each message
MEMORY = 64 << 20  # bytes; the messages that the silent one did not take are a hundredth of it
WATCH = f"GET {BASE}watch-ipn-bus?mask=0 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


async def follow(reader: asyncio.StreamReader) -> int:
    """How many changes are heard up to the last one."""
    heard, rest = 0, b""
    while True:
        data = await reader.read(1 << 16)
        assert data, "the daemon ended the watch"
        *lines, rest = (rest + data).split(b"\n")
        heard += sum(b'"ProfileName":"n' in line for line in lines)
        if any(b'"ProfileName":"nlast"' in line for line in lines):
            return heard


def change(client: Client, name: str) -> None:
    """Everybody is told of all settings."""
    client.request("PATCH", "prefs", {"ProfileName": name, "ProfileNameSet": True})


def watching(client: Client) -> int:
    """As the daemon counts them."""
    found = re.search(rb"^tailnetd_watchers (\d+)$", client.request("GET", "metrics"), re.MULTILINE)
    assert found is not None
    return int(found[1])


def resident(host: Host) -> int:
    """Memory of the daemon [bytes]."""
    text = Path(f"/proc/{host.running.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) << 10


async def test_two_hundred_follow_beside_one_that_reads_nothing(pair: Lab) -> None:
    """Each hears every change; the silent one is dropped, and costs what is bounded."""
    host = pair.hosts["h1"]
    client = Client(str(host.socket))
    edit = {"RelayServerStaticEndpoints": LARGE, "RelayServerStaticEndpointsSet": True}
    client.request("PATCH", "prefs", edit)
    async with AsyncExitStack() as stack:
        readers = []
        for number in range(WATCHERS + 1):
            reader, writer = await asyncio.open_unix_connection(str(host.socket), limit=1 << 16)
            stack.callback(writer.close)
            writer.write(WATCH)
            if number:
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                readers.append(reader)
            else:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert watching(client) == WATCHERS + 1
        before = resident(host)
        following = [asyncio.create_task(follow(reader)) for reader in readers]
        for number in range(CHANGES):
            await asyncio.to_thread(change, client, f"n{number}")
        assert watching(client) == WATCHERS
        await asyncio.to_thread(change, client, "nlast")
        assert set(await asyncio.gather(*following)) == {CHANGES + 1}
        assert resident(host) - before < MEMORY
        assert json.loads(client.request("GET", "status"))["BackendState"] == "Running"
