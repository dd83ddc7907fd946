"""Traffic of a thousand flows in random order, and who takes it.

    python -m integration.bench.crossfire datagrams PEERS SIZE RATE
    python -m integration.bench.crossfire messages PEERS
    python -m integration.bench.crossfire sink

Flow n goes to the address FIRST + n % PEERS.  ``datagrams`` offers RATE of them a second by UDP, 64
with one system call, so that this program is not what limits the rate.  ``messages`` writes
messages of 64 bytes to 64 KiB (each power of two as often) to the TCP connection that comes next
at random and has room.  ``sink`` accepts connections and reads.  Until killed.
"""

import contextlib
import ctypes
import ctypes.util
import random
import select
import socket
import struct
import sys
import time
from ipaddress import IPv4Address

FIRST = IPv4Address("100.65.0.0")  # of the peers
SOURCE = IPv4Address("100.66.0.0")  # SOURCE + n % PEERS writes messages to FIRST + n % PEERS
FLOWS = 1000
PORT = 9000
_BATCH = 64
_PREPARED = 64 * 512
_MESSAGE = 64 << 10
_PATIENCE = 100  # connections without room in a row, before waiting for one


_message = struct.Struct("=QQQQQQQQ")
"""``struct mmsghdr``: name, its length, iovec, how many, control, its length, flags, bytes sent."""


def datagrams(peers: int, size: int, rate: int) -> None:
    """Send without end."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    data = ctypes.create_string_buffer(size)
    iov = (ctypes.c_size_t * 2)(ctypes.addressof(data), size)
    family = struct.pack("=H", socket.AF_INET)
    names = b"".join(
        family + struct.pack(">HI8x", PORT + n, int(FIRST) + n % peers) for n in range(FLOWS)
    )
    table = ctypes.create_string_buffer(names, len(names))
    name, vector = ctypes.addressof(table), ctypes.addressof(iov)
    prepared = b"".join(
        _message.pack(name + 16 * random.randrange(FLOWS), 16, vector, 1, 0, 0, 0, 0)
        for _ in range(_PREPARED)
    )
    whole = ctypes.create_string_buffer(prepared, len(prepared))
    fd, start, step = sock.fileno(), ctypes.addressof(whole), _BATCH * _message.size
    places = [ctypes.c_void_p(start + at) for at in range(0, len(prepared), step)]
    send = libc.sendmmsg
    due, now, pause = time.monotonic(), time.monotonic, _BATCH / rate
    while True:
        for place in places:
            send(fd, place, _BATCH, 0)
            due = max(due + pause, now() - 0.1)  # what was not sent in time is not caught up with
            if (wait := due - now()) > 0:
                time.sleep(wait)


def messages(peers: int) -> None:
    """Connect all, then write without end."""
    connections = []
    for n in range(FLOWS):
        near, far = str(SOURCE + n % peers), str(FIRST + n % peers)
        connection = socket.create_connection((far, PORT), 10, (near, 0))
        connection.setblocking(False)
        connections.append(connection)
    data = memoryview(bytes(_MESSAGE))
    sizes = [1 << n for n in range(6, 17)]
    everyone = select.poll()
    for connection in connections:
        everyone.register(connection, select.POLLOUT)
    full = 0
    while True:
        connection = random.choice(connections)
        try:
            connection.send(data[: random.choice(sizes)])
            full = 0
        except BlockingIOError:
            full += 1
            if full > _PATIENCE:
                everyone.poll(10)
                full = 0


def sink() -> None:
    """Take everything."""
    listener = socket.create_server(("0.0.0.0", PORT), backlog=FLOWS)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    ready = select.epoll()
    ready.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    room = bytearray(256 << 10)
    while True:
        for fd, _ in ready.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connection.setblocking(False)
                connections[connection.fileno()] = connection
                ready.register(connection, select.EPOLLIN)
                continue
            with contextlib.suppress(BlockingIOError):
                if not connections[fd].recv_into(room):
                    connections.pop(fd).close()


def main() -> None:
    """As the first word says."""
    match sys.argv[1:]:
        case ["datagrams", peers, size, rate]:
            datagrams(int(peers), int(size), int(rate))
        case ["messages", peers]:
            messages(int(peers))
        case _:
            sink()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
