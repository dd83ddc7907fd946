"""The seam to what is served, and its bounds."""

from collections.abc import Awaitable
from typing import Protocol

from tailnet.agent.addr import AddrPort

DNS_PORT = 53
MAX_QUERIES = 256  # answered at once, all clients together; more are dropped
MAX_CONNECTIONS = 64
MAX_PIPELINED = 16  # queries of one connection at once; the next waits to be read
MAX_TCP_QUERY = 4096  # bytes
QUERY_PATIENCE = 12.0  # seconds for one answer; a handler that gives up by itself does before
IDLE = 45.0  # seconds without a query, or until a client takes an answer


class Handler(Protocol):
    """Answers queries of one port."""

    def __call__(
        self, query: bytes, src: AddrPort, *, tcp: bool
    ) -> bytes | Awaitable[bytes | None] | None:
        """The answer, ``None`` for none; at once where nobody has to be asked.

        A ``Later`` ends in time by itself; anything else that is awaited is given up.

        Args:
            query: from this machine, or from a proxy's client; not to be trusted.
            src: who asks.
            tcp: it came by TCP: the answer may be long.
        """
