"""A STUN server: it tells whoever asks in the relays' dialect where the question came from."""

import asyncio
from typing import Any

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.stun.messages import encode_response, parse_request_untrusted


class StunServer(asyncio.DatagramProtocol):
    """One UDP socket for each address.

    Attributes:
        answered: requests answered.
        ignored: datagrams that were no such request.
        silent: set it to play a network without STUN.
        delay: seconds that an answer takes, to play a server far away.
    """

    def __init__(self) -> None:
        self._transports: dict[int, asyncio.DatagramTransport] = {}  # by the words of an address
        self.answered = 0
        self.ignored = 0
        self.silent = False
        self.delay = 0.0

    async def start(self, host: str, port: int) -> None:
        """Listen; ``port`` 0 chooses one."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        self._transports[len(transport.get_extra_info("sockname"))] = transport

    @property
    def port(self) -> int:
        """UDP port it listens on; 0 before :meth:`start`."""
        for transport in self._transports.values():
            return int(transport.get_extra_info("sockname")[1])
        return 0

    async def stop(self) -> None:
        """Close the sockets."""
        for transport in self._transports.values():
            transport.close()
        self._transports.clear()

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Answer to the source, IPv4-mapped addresses as IPv4."""
        try:
            txid = parse_request_untrusted(data)
            answer = encode_response(txid, AddrPort.of(str(addr[0]), addr[1]))
        except BadPacket:
            self.ignored += 1
            return
        if not self.silent:
            self.answered += 1
            loop = asyncio.get_running_loop()
            loop.call_later(self.delay, self._send, answer, addr)

    def _send(self, answer: bytes, addr: tuple[str | Any, int]) -> None:
        if (transport := self._transports.get(len(addr))) is not None:
            transport.sendto(answer, addr)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error for an answer of ours: nobody waits for it any more."""
