"""Hostile DNS to a resolver: ``python -m integration.lab.dnsnoise ADDRESS SEED ROUNDS``.

Every message by UDP, and every one by TCP with a right and with wrong lengths in front.
"""

import contextlib
import random
import socket
import sys
from collections.abc import Iterator

GOOD = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\2h1\3lab\2ts\3net\0\0\1\0\1"
HEAD, NAME = GOOD[:12], GOOD[12:-4]
TYPE = b"\0\1\0\1"


def counts(questions: int, others: int = 0) -> bytes:
    """A header that promises so much."""
    return HEAD[:4] + questions.to_bytes(2) + others.to_bytes(2) * 3


def messages(rng: random.Random) -> Iterator[bytes]:
    """One of each kind, and noise."""
    yield HEAD + b"\xc0\x0c" + TYPE  # the name is itself
    yield HEAD + b"\1a\xc0\x0e" + TYPE  # and again
    yield HEAD + b"\xc0\x0e\xc0\x0c" + TYPE  # each is the other
    yield HEAD + b"\xff" * 400  # pointers to nowhere
    yield counts(0) + NAME + TYPE
    yield counts(0)
    yield counts(0xFFFF) + (NAME + TYPE) * 3
    yield counts(0xFFFF, 0xFFFF) + NAME + TYPE
    yield counts(200) + (NAME + TYPE) * 200
    yield HEAD + (b"\x3f" + b"a" * 63) * 40 + b"\0" + TYPE  # 2,560 characters
    yield HEAD + b"\1a" * 2000 + b"\0" + TYPE
    yield HEAD + b"\x40" + b"a" * 64 + b"\0" + TYPE  # a label of 64
    yield HEAD + b"\0" + TYPE  # the root
    yield HEAD + b"\3\0\xff.\3lab\2ts\3net\0" + TYPE
    yield GOOD[:2] + b"\x81\x80" + GOOD[4:]  # an answer that nobody asked for
    for opcode in range(16):
        yield GOOD[:2] + bytes((opcode << 3,)) + GOOD[3:]
    for kind in (b"\0\xfc\0\1", b"\0\xfb\0\1", b"\0\xff\0\xff", b"\0\x0a\0\3", b"\xff\xff\xff\xff"):
        yield HEAD + NAME + kind
    yield counts(1, 1) + NAME + TYPE + b"\0\0\x29\xff\xff\xff\xff\xff\xff\xff\xff"
    yield HEAD[:10] + b"\0\1" + NAME + TYPE + b"\0\0\x29"  # EDNS cut off
    for size in range(len(GOOD)):
        yield GOOD[:size]
    for _ in range(50):
        yield rng.randbytes(rng.randrange(1, 600))
        broken = bytearray(GOOD)
        broken[rng.randrange(len(GOOD))] = rng.randrange(256)
        yield bytes(broken)


def by_udp(address: str, message: bytes) -> None:
    """Whatever is answered."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(message, (address, 53))


def by_tcp(address: str, data: bytes) -> None:
    """And hang up half-way, or wait a moment for what comes."""
    with contextlib.suppress(OSError), socket.create_connection((address, 53), 1) as sock:
        sock.settimeout(0.02)
        sock.sendall(data)
        sock.recv(4096)


def main() -> None:
    """All of it, several times."""
    address, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    for _ in range(rounds):
        for message in messages(rng):
            by_udp(address, message)
            size = len(message)
            said = rng.choice((size, size, size + 5, max(0, size - 3), 0, 0xFFFF))
            by_tcp(address, said.to_bytes(2) + message)


if __name__ == "__main__":
    main()
