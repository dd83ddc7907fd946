"""A small TCP throughput test, for machines without ``iperf3``.

``python -m integration.lab.bulk serve ADDRESS PORT`` prints ``listening``, takes one connection and
counts; ``… send ADDRESS PORT SECONDS [PROXY]`` prints bytes and seconds as JSON, and goes through
the SOCKS5 server at PROXY (``IP:PORT``) if there is one.
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


def connect(address: str, port: int, timeout: float, proxy: str) -> socket.socket:
    """Directly, or through a SOCKS5 server."""
    if not proxy:
        return socket.create_connection((address, port), timeout=timeout)
    host, _, number = proxy.rpartition(":")
    connection = socket.create_connection((host, int(number)), timeout=timeout)
    packed = socket.inet_pton(_family(address), address)
    kind = b"\x01" if len(packed) == 4 else b"\x04"
    connection.sendall(b"\x05\x01\x00\x05\x01\x00" + kind + packed + port.to_bytes(2))
    reader = connection.makefile("rb", buffering=0)
    reply = reader.read(2) + reader.read(4)
    if reply[3] or not reader.read(6 if reply[5] == 1 else 18):
        sys.exit(f"the proxy refuses: {reply.hex()}")
    return connection


def send(address: str, port: int, seconds: float, proxy: str = "") -> None:
    """Send for ``seconds``, then learn how much arrived."""
    with connect(address, port, 10 + seconds, proxy) as connection:
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
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:])
