"""``tnet trace --live``: each part of the way is tried, from the outermost to the whole of it."""

import socket
from collections.abc import Iterator
from typing import NamedTuple

from tailnet.agent import clock
from tailnet.agent.localapi.schema.tracing import TraceAnswer
from tailnet.cli.client import LocalClient
from tailnet.cli.text import clean, format_latency
from tailnet.client import questions
from tailnet.client.errors import ClientError, TimedOut

PATIENCE = 5.0  # seconds for each
KINDS = {
    "disco": ("path", "the path to it, below WireGuard"),
    "TSMP": ("tunnel", "its daemon, through WireGuard"),
    "ICMP": ("system", "its system, through WireGuard and its filter"),
}
"""Kinds of pings, what each tries, and who answers."""


class Tried(NamedTuple):
    """One probe: what of the way it is about, and how it went."""

    about: str
    works: bool
    says: str


def probe(client: LocalClient, found: TraceAnswer, proto: str, port: int) -> Iterator[Tried]:
    """From the path to the port; the last one is what was asked about."""
    status = client.status()
    peers = (status.peer or {}).values()
    if any(found.dst in (peer.tailscale_ips or ()) for peer in peers):
        kinds = KINDS if proto == "icmp" else {k: KINDS[k] for k in ("disco", "ICMP", "TSMP")}
        for kind, (about, whom) in kinds.items():
            yield _ping(client, found.dst, kind, about, whom)
    if proto == "tcp" and port:
        yield _connect(found.dst, port)


def _ping(client: LocalClient, address: str, kind: str, about: str, whom: str) -> Tried:
    try:
        asked = questions.ping(address, kind)
        pong = client.ask(asked._replace(patience=PATIENCE))
    except TimedOut:
        return Tried(about, False, f"{kind}: no answer within {PATIENCE:.0f} s from {whom}")
    except ClientError as error:
        return Tried(about, False, f"{kind}: {clean(str(error))}")
    if pong.err:
        return Tried(about, False, f"{kind}: no answer from {whom}: {clean(pong.err)}")
    via = clean(pong.endpoint) or (
        pong.derp_region_code and f"relay {clean(pong.derp_region_code)}"
    )
    way = f" via {via}" if via else ""
    return Tried(about, True, f"{kind}: answered{way} in {format_latency(pong.latency_seconds)}")


def _connect(address: str, port: int) -> Tried:
    """As any program would."""
    began = clock.now()
    try:
        with socket.create_connection((address, port), PATIENCE):
            took = format_latency(clock.now() - began)
            return Tried("port", True, f"connected to {address} port {port} in {took}")
    except ConnectionRefusedError:
        says = f"{address} refused port {port}; the way is there, nobody listens"
    except TimeoutError:
        says = f"no answer from {address} port {port} within {PATIENCE:.0f} s"
    except OSError as error:
        says = f"{error.strerror or error}"
    return Tried("port", False, says)
