"""An HTTP proxy like those of companies.

``python -m integration.lab.webproxy ADDRESS PORT [LOGIN]`` serves CONNECT and requests with a whole
URL; with ``LOGIN`` (``user:password``) only to those who say it.
Every request is a line of its output.
"""

import asyncio
import base64
import sys
from urllib.parse import urlsplit

BLOCK = 64 << 10  # bytes
TIMEOUT = 10.0  # seconds to connect


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(BLOCK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, login: str) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, _ = head.split(" ", 2)
    wanted = base64.b64encode(login.encode()).decode()
    if login and f"\r\nProxy-Authorization: Basic {wanted}\r\n" not in head:
        print("407", method, target, flush=True)  # noqa: T201
        writer.write(
            b"HTTP/1.1 407 Proxy Authentication Required\r\n"
            b'Proxy-Authenticate: Basic realm="lab"\r\nContent-Length: 0\r\n\r\n'
        )
        await writer.drain()
        return
    parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
    print("200", method, target, flush=True)  # noqa: T201
    async with asyncio.timeout(TIMEOUT):
        there = await asyncio.open_connection(parts.hostname, parts.port or 80)
    if method == "CONNECT":
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    else:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        there[1].write(head.replace(target, path, 1).encode("latin-1"))
    async with asyncio.TaskGroup() as group:
        group.create_task(_copy(reader, there[1]))
        group.create_task(_copy(there[0], writer))


async def _main(address: str, port: int, login: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _serve(reader, writer, login)
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, address, port)
    print("listening", flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""))
