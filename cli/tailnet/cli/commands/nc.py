"""``tnet nc``.

Source: tailscale cmd/tailscale/cli/nc.go.
"""

import os
import socket
import sys
import threading

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.completing import PEER
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.peers import not_connected
from tailnet.cli.text import clean

BLOCK = 64 << 10  # bytes


@click.command(cls=GoCommand, help="Connect to a port of a peer, with standard input and output.")
@click.argument("host", type=PEER, metavar="HOST")
@click.argument("port", type=click.IntRange(1, 65535))
@with_client
def command(client: LocalClient, *, host: str, port: int) -> None:
    """Copy both ways; the other side's end is the end."""
    if not host or not host.isprintable() or not host.isascii() or " " in host:
        msg = f"not a host: {clean(host) or 'an empty name'}"
        raise Failure(msg)
    status = client.status(peers=False)
    if status.backend_state != "Running":
        msg = not_connected(status)
        raise Failure(msg)
    sock, first = client.dial(host, port)
    with sock:
        # A daemon thread: it may wait for input that nobody needs any more.
        threading.Thread(target=_send, args=(sock,), daemon=True).start()
        _receive(sock, first)


def _send(sock: socket.socket) -> None:
    try:
        while data := os.read(sys.stdin.fileno(), BLOCK):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return  # it has ended, which the other direction sees too


def _receive(sock: socket.socket, first: bytes) -> None:
    try:
        _write(first)
        while data := sock.recv(BLOCK):
            _write(data)
    except BrokenPipeError:
        return  # nobody reads our output any more
    except OSError as error:
        msg = f"connection lost: {error.strerror}"
        raise Failure(msg) from None


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
