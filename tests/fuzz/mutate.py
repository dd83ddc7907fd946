"""Bytes that are nearly right: what is tried where no coverage guides."""

from collections.abc import Sequence
from random import Random

INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\r\n", b"\r\n\r\n", b'"', b"}", b"null", b"-1")
MAX_SIZE = 4096


def mutate(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` with a few things changed, or bytes from nowhere."""
    if not seeds or random.random() < 0.1:
        return random.randbytes(random.choice((0, 1, 4, 16, 64, 300)))
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((0, 1, 1, 2, 4, 16))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 2, 4, 16, 64)))
        match random.randrange(7):
            case 0:
                data[at:end] = random.randbytes(end - at)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at:at] = random.choice(INTERESTING)
            case 4 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 5:
                other = random.choice(seeds)
                start = random.randrange(len(other) + 1)
                data[at:] = other[start:]
            case _:
                del data[at:]
    return bytes(data[:MAX_SIZE])
