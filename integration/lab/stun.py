"""A STUN server: it tells whoever asks in the relays' dialect where the question came from."""

import asyncio
from typing import Any

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.stun.messages import encode_response, parse_request_untrusted


class StunServer(asyncio.DatagramProtocol):
    """One UDP socket.

    Attributes:
        answered: requests answered.
        ignored: datagrams that were no such request.
        silent: set it to play a network without STUN.
        delay: seconds that an answer takes, to play a server far away.
    """

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self.answered = 0
        self.ignored = 0
        self.silent = False
        self.delay = 0.0

    async def start(self, host: str, port: int) -> None:
        """Listen; ``port`` 0 chooses one."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(host, port)
        )

    @property
    def port(self) -> int:
        """UDP port it listens on; 0 before :meth:`start`."""
        if self._transport is None:
            return 0
        return int(self._transport.get_extra_info("sockname")[1])

    async def stop(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Answer to the source, IPv4-mapped addresses as IPv4."""
        try:
            txid = parse_request_untrusted(data)
            answer = encode_response(txid, AddrPort.of(str(addr[0]), addr[1]))
        except BadPacket:
            self.ignored += 1
            return
        if not self.silent and self._transport is not None:
            self.answered += 1
            loop = asyncio.get_running_loop()
            loop.call_later(self.delay, self._send, answer, addr)

    def _send(self, answer: bytes, addr: tuple[str | Any, int]) -> None:
        if self._transport is not None:
            self._transport.sendto(answer, addr)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error for an answer of ours: nobody waits for it any more."""
