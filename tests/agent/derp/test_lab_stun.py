"""The lab's STUN server answers in the relays' dialect."""

import asyncio

from integration.lab.stun import StunServer

from tailnet.agent.addr import AddrPort
from tailnet.agent.stun.messages import encode_request, parse_response_untrusted


class Asker(asyncio.DatagramProtocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """An answer."""
        self.got.put_nowait(data)


async def test_a_request_is_answered_with_its_source() -> None:
    """And what is no request is not answered."""
    server = StunServer()
    await server.start("127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    transport, asker = await loop.create_datagram_endpoint(
        Asker, remote_addr=("127.0.0.1", server.port)
    )
    transport.sendto(b"noise")
    transport.sendto(encode_request(b"t" * 12))
    async with asyncio.timeout(5):
        answer = await asker.got.get()
    own = AddrPort.of(*transport.get_extra_info("sockname"))
    assert parse_response_untrusted(answer) == (b"t" * 12, own)
    assert (server.answered, server.ignored) == (1, 1)
    transport.close()
    await server.stop()
