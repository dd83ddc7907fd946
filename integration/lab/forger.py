"""A DNS server beside a forger: ``python -m integration.lab.forger ADDRESS``.

The first label of the name asked for says what the forger does before the server answers:
``wrong-id``, ``wrong-question``, ``wrong-case``, ``wrong-source``, ``no-answer`` (it is none), or
after it: ``late-second``.  Forged is 203.0.113.66, true is 203.0.113.5.
"""

import socket
import sys
import time

HEADER = 12  # bytes
PAUSE = 0.05  # seconds between the forged answer and the true one
FORGED, TRUE = (bytes((203, 0, 113, last)) for last in (66, 5))


def answer(query: bytes, address: bytes) -> bytes:
    """An A record for the question."""
    end = query.index(b"\0", HEADER) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[HEADER:end] + record


def swapped(query: bytes) -> bytes:
    """Every letter of the name in the other case."""
    end = query.index(b"\0", HEADER)
    return query[:HEADER] + query[HEADER:end].swapcase() + query[end:]


def forged(kind: str, query: bytes) -> bytes:
    """What the forger says."""
    said = answer(query, FORGED)
    if kind == "wrong-id":
        return bytes((said[0] ^ 1, said[1])) + said[2:]
    if kind == "wrong-question":
        last = query.index(b"\0", HEADER) - 1  # of the name's letters
        return said[:last] + bytes((said[last] ^ 2,)) + said[last + 1 :]
    if kind == "no-answer":
        return said[:2] + b"\x01\x00" + said[4:]
    return answer(swapped(query), FORGED) if kind == "wrong-case" else said


def serve(address: str) -> None:
    """Until killed."""
    sock, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    sock.bind((address, 53))
    other.bind((address, 0))
    while True:
        query, client = sock.recvfrom(4096)
        kind = query[HEADER + 1 : HEADER + 1 + query[HEADER]].decode().lower()
        if kind == "late-second":
            sock.sendto(answer(query, TRUE), client)
            for _ in range(20):
                sock.sendto(forged(kind, query), client)
            continue
        (other if kind == "wrong-source" else sock).sendto(forged(kind, query), client)
        time.sleep(PAUSE)
        sock.sendto(answer(query, TRUE), client)


if __name__ == "__main__":
    serve(sys.argv[1])
