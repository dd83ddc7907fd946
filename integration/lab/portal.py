"""Port 80: the relays' own, or a network's that wants a login first."""

import asyncio

from integration.lab import derp_http

from tailnet.agent.errors import BadPacket

PORT = 80
LOGIN = b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n"
TIMEOUT = 5.0  # s for a request


class WebServer:
    """Answers as relays do.

    Attributes:
        captive: set it to play a captive portal.
    """

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self.captive = False

    async def start(self, host: str) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, host, PORT)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                head = await reader.readuntil(derp_http.END)
            request = derp_http.parse_request_untrusted(head.removesuffix(derp_http.END))
            writer.write(LOGIN if self.captive else derp_http.respond(request))
        except (OSError, EOFError, BadPacket, asyncio.LimitOverrunError):
            pass  # whoever asks so gets no answer
        finally:
            writer.close()
