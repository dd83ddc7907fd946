"""One request to the gateway over a connection of its own; redirects lead nowhere."""

import asyncio
import logging
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import NamedTuple
from urllib.parse import urlsplit

import h11

from tailnet.agent.portmap.igd import Post
from tailnet.agent.portmap.upnp import MAX_DOCUMENT

log = logging.getLogger("tailnet.portmap")

GET_TIMEOUT = 1.0  # seconds for a description
POST_TIMEOUT = 3.0  # seconds for a call; routers write to their flash
_MAX_HEAD = 16 << 10  # bytes
_READ = 16 << 10  # bytes

Mark = Callable[[socket.socket], None]


class Answer(NamedTuple):
    """``status`` 0: none came, or it was too slow or too large."""

    status: int
    body: bytes


NO_ANSWER = Answer(0, b"")


async def fetch(post: Post, own: IPv4Address, mark: Mark) -> Answer:
    """Carry out one request from our address ``own``."""
    try:
        async with asyncio.timeout(POST_TIMEOUT if post.action else GET_TIMEOUT):
            return await _fetch(post, own, mark)
    except (OSError, TimeoutError, h11.ProtocolError) as error:
        log.debug("%s: %s", post.url, str(error) or "too slow")
        return NO_ANSWER


async def _fetch(post: Post, own: IPv4Address, mark: Mark) -> Answer:
    url = urlsplit(post.url)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        mark(sock)
        sock.bind((str(own), 0))
        await loop.sock_connect(sock, (url.hostname, url.port or 80))
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        await loop.sock_sendall(sock, _request(http, post, url.netloc))
        status, body = 0, bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await loop.sock_recv(sock, _READ))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_DOCUMENT:
                    return NO_ANSWER
            elif not isinstance(event, h11.InformationalResponse):
                return Answer(status, bytes(body))


def _request(http: h11.Connection, post: Post, host: str) -> bytes:
    url = urlsplit(post.url)
    headers = [("Host", host), ("Connection", "close"), ("User-Agent", "tailnet UPnP/1.1")]
    if post.action:
        headers += [
            ("Content-Type", 'text/xml; charset="utf-8"'),
            ("SOAPAction", post.action),
            ("Content-Length", str(len(post.body))),
        ]
    target = url.path + ("?" + url.query if url.query else "")
    method = "POST" if post.action else "GET"
    said = http.send(h11.Request(method=method, target=target, headers=headers)) or b""
    said += (http.send(h11.Data(data=post.body)) or b"") if post.body else b""
    return said + (http.send(h11.EndOfMessage()) or b"")
