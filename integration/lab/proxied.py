"""Clients and a server for tests of proxies; each prints one line of JSON, or ``listening``.

``python -m integration.lab.proxied serve PORT [ADDRESS…]`` echoes TCP and UDP on every address, or
UDP on these only (a machine of several answers from the one it was asked at);
``… many PROXY HOST PORT COUNT`` opens so many connections through a SOCKS5 proxy (``IP:PORT``),
uses all of them, then closes them; ``… hold`` keeps them open; ``… half PROXY HOST PORT BYTES``
sends, ends its side, reads on;
``… udp PROXY HOST PORT [BYTES]`` sends one datagram and waits for it to come back;
``… dns PROXY SERVER NAME`` asks for an address by UDP and by TCP.
"""

import asyncio
import hashlib
import json
import socket
import sys
from ipaddress import ip_address
from typing import cast

from dnslib import DNSRecord

BLOCK = 64 << 10


def _target(host: str, port: int) -> bytes:
    try:
        ip = ip_address(host)
    except ValueError:
        return bytes((3, len(host))) + host.encode() + port.to_bytes(2)
    return bytes((1 if ip.version == 4 else 4,)) + ip.packed + port.to_bytes(2)


async def _socks(
    proxy: str, command: int, target: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    host, _, port = proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x05\x01\x00")
    assert await reader.readexactly(2) == b"\x05\x00"
    writer.write(bytes((5, command, 0)) + target)
    reply = await reader.readexactly(4)
    assert reply[1] == 0, f"reply {reply[1]}"
    bound = await reader.readexactly(4 + 2 if reply[3] == 1 else 16 + 2)
    return reader, writer, bound


async def _serve(port: int, addresses: list[str]) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(BLOCK):
            writer.write(data)
            await writer.drain()
        writer.close()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data, addr)

    listener = socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
    )
    server = await asyncio.start_server(echo, sock=listener)
    loop = asyncio.get_running_loop()
    for address in addresses:
        sock = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
        )
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        await loop.create_datagram_endpoint(Echo, sock=sock)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _many(proxy: str, host: str, port: int, count: int) -> dict[str, int]:
    gate = asyncio.Semaphore(64)

    async def one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with gate:
            reader, writer, _ = await _socks(proxy, 1, _target(host, port))
            return reader, writer

    opened = await asyncio.gather(*(one() for _ in range(count)))

    async def use(number: int) -> int:
        reader, writer = opened[number]
        sent = f"connection {number};".encode() * 100
        writer.write(sent)
        return int(await reader.readexactly(len(sent)) == sent)

    good = sum(await asyncio.gather(*(use(number) for number in range(count))))
    for _, writer in opened:
        writer.close()
    return {"opened": len(opened), "good": good}


async def _hold(proxy: str, host: str, port: int, count: int) -> None:
    gate = asyncio.Semaphore(64)

    async def one() -> asyncio.StreamWriter:
        async with gate:
            reader, writer, _ = await _socks(proxy, 1, _target(host, port))
            writer.write(bytes(1000))
            await reader.readexactly(1000)
            return writer

    opened = await asyncio.gather(*(one() for _ in range(count)))
    print(f"opened {len(opened)}", flush=True)  # noqa: T201
    await asyncio.Event().wait()


async def _half(proxy: str, host: str, port: int, size: int) -> dict[str, object]:
    reader, writer, _ = await _socks(proxy, 1, _target(host, port))
    sent, got = hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        for number in range(size // BLOCK):
            data = number.to_bytes(8) * (BLOCK // 8)
            sent.update(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def receive() -> int:
        total = 0
        while data := await reader.read(BLOCK):
            got.update(data)
            total += len(data)
        return total

    _, total = await asyncio.gather(send(), receive())
    writer.close()
    return {"bytes": total, "same": sent.digest() == got.digest()}


async def _udp(proxy: str, host: str, port: int, size: int) -> dict[str, bool]:
    _, writer, bound = await _socks(proxy, 3, bytes((1, 0, 0, 0, 0, 0, 0)))
    loop = asyncio.get_running_loop()
    header = bytes(3) + _target(host, port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((".".join(map(str, bound[:4])), int.from_bytes(bound[4:])))
        data = (b"there and back" * (size // 14 + 1))[:size]
        await loop.sock_sendall(sock, header + data)
        async with asyncio.timeout(5):
            answer = await loop.sock_recv(sock, 70_000)
    writer.close()
    return {"same": answer[-size:] == data and len(answer) in {size + 10, size + 22}}


async def _dns(proxy: str, server: str, name: str) -> dict[str, list[str]]:
    query = DNSRecord.question(name).pack()

    def said(answer: bytes) -> list[str]:
        return [str(record.rdata) for record in DNSRecord.parse(answer).rr]

    async with asyncio.timeout(5):
        reader, writer, _ = await _socks(proxy, 1, _target(server, 53))
        writer.write(len(query).to_bytes(2) + query)
        by_tcp = said(await reader.readexactly(int.from_bytes(await reader.readexactly(2))))
        writer.close()
        _, writer, bound = await _socks(proxy, 3, bytes((1, 0, 0, 0, 0, 0, 0)))
        loop = asyncio.get_running_loop()
        header = bytes(3) + _target(server, 53)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((".".join(map(str, bound[:4])), int.from_bytes(bound[4:])))
            await loop.sock_sendall(sock, header + query)
            by_udp = said((await loop.sock_recv(sock, 70_000))[len(header) :])
        writer.close()
    return {"tcp": by_tcp, "udp": by_udp}


def main() -> None:
    """As the arguments say."""
    match sys.argv[1:]:
        case ["serve", port, *addresses]:
            asyncio.run(_serve(int(port), addresses or ["0.0.0.0", "::"]))
        case ["many", proxy, host, port, count]:
            print(json.dumps(asyncio.run(_many(proxy, host, int(port), int(count)))))  # noqa: T201
        case ["hold", proxy, host, port, count]:
            asyncio.run(_hold(proxy, host, int(port), int(count)))
        case ["half", proxy, host, port, size]:
            print(json.dumps(asyncio.run(_half(proxy, host, int(port), int(size)))))  # noqa: T201
        case ["udp", proxy, host, port, *size]:
            said = asyncio.run(_udp(proxy, host, int(port), int(*(size or ["14"]))))
            print(json.dumps(said))  # noqa: T201
        case ["dns", proxy, host, name]:
            print(json.dumps(asyncio.run(_dns(proxy, host, name))))  # noqa: T201


if __name__ == "__main__":
    main()
