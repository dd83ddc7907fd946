"""A small TCP throughput test, for machines without ``iperf3``.

``python -m integration.lab.bulk serve ADDRESS PORT`` prints ``listening``, takes one connection and
counts; ``… send ADDRESS PORT SECONDS`` prints bytes and seconds as JSON.
"""

import json
import socket
import sys
import time

BLOCK = 256 * 1024  # bytes per write


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address: str, port: int) -> None:
    """Receive until the sender closes, then answer with the number of bytes."""
    with socket.create_server((address, port), family=_family(address)) as listener:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        connection, _ = listener.accept()
        with connection:
            buffer = bytearray(BLOCK)
            total = 0
            while count := connection.recv_into(buffer):
                total += count
            connection.sendall(str(total).encode())


def send(address: str, port: int, seconds: float) -> None:
    """Send for ``seconds``, then learn how much arrived."""
    with socket.create_connection((address, port), timeout=10 + seconds) as connection:
        block = bytes(BLOCK)
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        total = int(connection.makefile("rb").read())
        taken = time.monotonic() - start
    sys.stdout.write(json.dumps({"bytes": total, "seconds": taken}) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
