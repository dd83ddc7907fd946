"""How much one peer relay forwards: ``python -m integration.bench.peer_relay [SECONDS]``.

::

    process 1: client a ──► process 2: the relay ──► process 1: client b       loopback, UDP

Datagrams are as large as full packets of the tunnel; clients use the kernel's offloads, as ours do.
"""

import asyncio
import multiprocessing
import os
import resource
import socket
import sys
import time
from ipaddress import IPv4Address
from multiprocessing.connection import Connection

from tailnet.agent.addr import AddrPort
from tailnet.agent.disco import geneve, messages
from tailnet.agent.disco.envelope import Sealer
from tailnet.agent.disco.geneve import HEADER_LEN, Header, Protocol
from tailnet.agent.disco.via import Bind, Kind, RelayEndpoint
from tailnet.agent.keys import DiscoPrivate, DiscoPublic
from tailnet.agent.magicsock.sockets.aio import Sockets
from tailnet.agent.netcheck.measurement import Addresses
from tailnet.agent.netcheck.plan import Plan
from tailnet.agent.relay.aio import PeerRelay

SIZE = 1280 + 32 + HEADER_LEN  # bytes of a datagram: a full packet, sealed, and the header
GROUP = 45  # datagrams of one call
SEGMENT, GRO = 103, 104
SECONDS = 5.0
LOCAL = "127.0.0.1"


class Client:
    """One end of the session."""

    def __init__(self) -> None:
        self.sealer = Sealer(DiscoPrivate.from_random(os.urandom(32)))
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((LOCAL, 0))
        self.sock.settimeout(2)
        for option in (33, 32):  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
            self.sock.setsockopt(socket.SOL_SOCKET, option, 7 << 20)

    def bind(self, endpoint: RelayEndpoint, other: DiscoPublic) -> None:
        """Prove where we are."""
        to = (LOCAL, endpoint.addrs[0].port)
        step = Bind(Kind.BIND, endpoint.vni, 1, other)
        head = geneve.encode(Header(Protocol.DISCO, endpoint.vni, control=True))
        for _ in range(2):
            data = messages.encode(step)
            self.sock.sendto(head + self.sealer.seal(endpoint.server, os.urandom(24), data), to)
            if step.step is Kind.ANSWER:
                return
            answer = self.sealer.open_untrusted(self.sock.recv(2048)[HEADER_LEN:])
            challenge = messages.parse_untrusted(answer)
            assert isinstance(challenge, Bind)
            step = challenge._replace(step=Kind.ANSWER)


def clients(pipe: Connection, seconds: float) -> None:
    """Bind, send for a while, and count what arrives."""
    a, b = Client(), Client()
    pipe.send((a.sealer.public.raw, b.sealer.public.raw))
    endpoint: RelayEndpoint = pipe.recv()
    a.bind(endpoint, b.sealer.public)
    b.bind(endpoint, a.sealer.public)
    time.sleep(0.2)
    head = geneve.encode(Header(Protocol.WIREGUARD, endpoint.vni))
    group = (head + bytes(SIZE - HEADER_LEN)) * GROUP
    control = [(socket.IPPROTO_UDP, SEGMENT, SIZE.to_bytes(2, sys.byteorder))]
    to = (LOCAL, endpoint.addrs[0].port)
    b.sock.setsockopt(socket.IPPROTO_UDP, GRO, 1)
    b.sock.setblocking(False)
    got = ahead = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ahead < 2 << 20:  # what is under way fits into the buffers
            a.sock.sendmsg([group], control, 0, to)
            ahead += len(group)
        try:
            while size := len(b.sock.recv(0xFFFF)):
                got += size
                ahead -= size
        except BlockingIOError:
            continue
    pipe.send(got)


async def no_servers(_: Plan) -> Addresses:
    """Nobody to ask where we are."""
    return {}


async def relay(pipe: Connection, seconds: float) -> None:
    """Serve the clients, then say how it went."""
    sockets = Sockets(lambda _: None)
    it = PeerRelay(
        sockets.bind,
        resolve=no_servers,
        versions=sockets.ip_versions,
        now=time.monotonic,
        random_bytes=os.urandom,
    )
    it.want(0)
    it.set_hosts([IPv4Address(LOCAL)])
    one, two = await asyncio.to_thread(pipe.recv)
    endpoint = it.allocate((DiscoPublic(one), DiscoPublic(two)), time.monotonic())
    assert endpoint is not None
    assert endpoint.addrs == (AddrPort(IPv4Address(LOCAL), it.port),)
    pipe.send(endpoint)
    before = resource.getrusage(resource.RUSAGE_SELF)
    got = await asyncio.to_thread(pipe.recv)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rate = f"{got * 8 / seconds / 1e9:.2f} Gbit/s, {cpu / (got / 1e9):.2f} s of CPU per GB"
    sys.stdout.write(f"{rate}\ndropped: {dict(it.drops()) or 'nothing'}\n")
    it.close()


def main() -> None:
    """Both processes."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    here, there = multiprocessing.Pipe()
    child = multiprocessing.Process(target=clients, args=(there, seconds))
    child.start()
    asyncio.run(relay(here, seconds))
    child.join()


if __name__ == "__main__":
    main()
