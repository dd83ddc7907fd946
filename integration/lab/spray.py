"""Garbage for a UDP port: ``python -m integration.lab.spray ADDRESS PORT COUNT SECONDS KEY HEARD``.

``KEY`` is the target's node key in hex, which anyone in a tailnet can know: with it handshake
messages get past the first check.  ``HEARD`` is a file of datagrams, a line of hex each, that
somebody overheard, to be replayed.  Bounded in count and time.
"""

import hashlib
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BURST = 50  # datagrams between two looks at the clock
SOURCES = 4  # sockets, so as many source ports
MTU = 1400


def initiation(key: bytes) -> bytes:
    """A handshake initiation that is noise but for its first MAC (WireGuard paper, 5.4.4)."""
    head = b"\x01\0\0\0" + os.urandom(112)
    label = hashlib.blake2s(b"mac1----" + key).digest()
    return head + hashlib.blake2s(head, key=label, digest_size=16).digest() + bytes(16)


def kinds(key: bytes, heard: list[bytes]) -> list[Callable[[], bytes]]:
    """One maker for each kind of garbage."""
    size = random.randrange
    return [
        lambda: b"",
        lambda: os.urandom(size(1, MTU)),
        lambda: os.urandom(size(1, 32)),
        lambda: bytes([size(1, 5), 0, 0, 0]) + os.urandom(size(0, MTU)),
        lambda: b"\x04\0\0\0" + os.urandom(12) + os.urandom(16 * size(1, 80)),
        lambda: b"\x01\0\0\0" + os.urandom(144),
        lambda: b"\x02\0\0\0" + os.urandom(88),
        lambda: b"\x03\0\0\0" + os.urandom(60),
        lambda: initiation(key),
        lambda: initiation(key)[: size(1, 148)],
        lambda: "TS💬".encode() + os.urandom(size(0, 200)),
        lambda: "TS💬".encode() + os.urandom(32 + 24 + 16 + size(0, 60)),
        lambda: b"\x01\x01\0\x0c\x21\x12\xa4\x42" + os.urandom(12 + size(0, 40)),
        lambda: b"\0\x01\0\0\x21\x12\xa4\x42" + os.urandom(12),
        lambda: random.choice(heard),
    ]


def datagrams(key: bytes, heard: list[bytes], count: int) -> Iterator[bytes]:
    """That many, of every kind in turn."""
    makers = kinds(key, heard)
    for number in range(count):
        yield makers[number % len(makers)]()


def main() -> None:
    """Spray."""
    address, port, count, seconds, key, file = sys.argv[1:]
    heard = [bytes.fromhex(line) for line in Path(file).read_text().split()]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(SOURCES)]
    began = time.monotonic()
    pace = float(seconds) / int(count)
    for number, data in enumerate(datagrams(bytes.fromhex(key), heard, int(count))):
        try:
            sockets[number % SOURCES].sendto(data, (address, int(port)))
        except ConnectionRefusedError:
            continue  # an ICMP answer to an earlier one
        if number % BURST == 0:
            time.sleep(max(0.0, began + number * pace - time.monotonic()))


if __name__ == "__main__":
    main()
