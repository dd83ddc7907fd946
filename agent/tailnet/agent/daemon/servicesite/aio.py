"""The small site at the service addresses, port 80: metrics, as upstream's web client has them.

Source: tailscale client/web/web.go, serveMetrics; ipn/ipnlocal/web_client.go.
"""

import socket
from collections.abc import Callable, Collection

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.daemon.debugsite.pages import HEADERS, refuses_host
from tailnet.agent.httpd.aio import Client, Server
from tailnet.agent.httpd.conversation import Request
from tailnet.agent.localapi.interface import Metrics
from tailnet.agent.metrics.text import CONTENT_TYPE

HTTP_PORT = 80
MAX_CLIENTS = 16
GRACE = 0.5  # seconds that answers under way get at the end
INDEX = b"tailnetd\n/metrics: metrics of this node, for Prometheus\nfor people: tnet web\n"


class ServiceSite:
    """Answers what the service ports hand over; reads and changes nothing.

    Args:
        own: addresses of this node: whoever is routed through it has others and is sent away.
    """

    def __init__(self, metrics: Metrics, own: Callable[[], Collection[IPAddress]]) -> None:
        self._metrics = metrics
        self._own = own
        self._server = Server(
            self._handle,
            headers=HEADERS,
            admit=lambda _: sum(1 for _ in self._server.sockets()) < MAX_CLIENTS,
        )

    async def start(self) -> None:
        """Nothing: others listen."""

    async def close(self) -> None:
        """End every connection.  Idempotent."""
        await self._server.close(GRACE)

    async def take(self, sock: socket.socket, src: AddrPort) -> None:
        """Serve one connection, whose socket is the site's from now on."""
        if src.ip in self._own():
            await self._server.take(sock)
        else:
            sock.close()

    async def _handle(self, client: Client, request: Request) -> None:
        if refuses_host(request.host):
            await client.answer(403, b"ask by address\n")
        elif request.path not in ("/", "/metrics"):
            await client.answer(404, b"not found\n")
        elif request.method not in ("GET", "HEAD"):
            await client.answer(405, b"only GET is allowed\n")
        elif request.path == "/":
            await client.answer(200, INDEX)
        else:
            await client.answer(200, (await self._metrics.user()).encode(), CONTENT_TYPE)
