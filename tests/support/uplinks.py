"""Networks that a host may be in, and its connection to a relay by one of them."""

import random
from collections import deque
from collections.abc import Callable

from tests.support.nats import Box

from tailnet.agent.addr import AddrPort

RELAY_DELAY = 0.030  # seconds, one way
DIAL = 4 * RELAY_DELAY  # seconds: TCP, TLS and the request
BACKOFF = (0.25, 0.5, 1.0, 2.0, 4.0, 5.0)  # seconds, times 0.5 to 1.5; derp/fleet.py
PATIENCE = 3.0  # seconds that a relay may be silent after a change; derp/session.py
QUEUE = 32  # datagrams that wait for a connection; derp/backlog.py

Soon = Callable[[float, Callable[[], None]], None]
"""After so many seconds that the machine is awake, do this."""


class Uplink:
    """A network that a host is in.

    Attributes:
        v4: the host's own address there; ``None``: only IPv6.
        v6: the same; ``None``: only IPv4.
        boxes: translators of IPv4, from the inside out.
        works: datagrams pass.
    """

    def __init__(
        self, v4: AddrPort | None, v6: AddrPort | None, boxes: list[Box], *, works: bool = True
    ) -> None:
        self.v4, self.v6, self.boxes, self.works = v4, v6, boxes, works

    @property
    def addresses(self) -> tuple[AddrPort, ...]:
        """The host's own."""
        return tuple(a for a in (self.v4, self.v6) if a is not None)

    def out(self, dst: AddrPort) -> AddrPort | None:
        """The source that is seen outside; ``None``: no address of that IP version."""
        if dst.ip.version == 6:
            return self.v6
        addr = self.v4
        for box in self.boxes:
            addr = None if addr is None else box.out(addr, dst)
        return addr

    def into(self, dst: AddrPort, src: AddrPort) -> bool:
        """Whether a datagram from outside reaches the host."""
        if dst.ip.version == 6:
            return dst == self.v6
        at: AddrPort | None = dst
        for box in reversed(self.boxes):
            if at is None or str(at.ip) != box.ip:
                return False
            at = box.into(at.port, src)
        return at is not None and at == self.v4


class RelayLink:
    """A host's connection to the relay, which is made anew whenever it is seen to be lost.

    Attributes:
        uplink: whose address it has, once it is accepted.
        broken: the relay, or a router, knows nothing of it any more.
    """

    def __init__(
        self,
        rng: random.Random,
        soon: Soon,
        way_out: Callable[[], Uplink | None],
        accepts: Callable[[], bool],
        carry: Callable[[bytes], None],
    ) -> None:
        """``way_out``: by which the host sends; ``accepts``: whether the relay is there."""
        self._rng, self._soon, self._way_out = rng, soon, way_out
        self._accepts, self._carry = accepts, carry
        self.uplink: Uplink | None = None
        self.broken = False
        self._dial = 0  # number of the attempt
        self._failures = 0
        self._backlog: deque[bytes] = deque(maxlen=QUEUE)

    @property
    def works(self) -> bool:
        """It carries in both directions."""
        up = self.uplink
        here = up is not None and up is self._way_out() and up.works
        return here and self._accepts() and not self.broken

    def redial(self, after: float = 0.0) -> None:
        """Another connection."""
        self.uplink, self.broken = None, False
        self._dial += 1
        number = self._dial

        def done() -> None:
            if number != self._dial:
                return
            up = self._way_out()
            if up is None or not up.works or not self._accepts():
                wait = BACKOFF[min(self._failures, 5)] * self._rng.uniform(0.5, 1.5)
                self._failures += 1
                self.redial(wait)
                return
            self.uplink, self._failures = up, 0
            waiting, self._backlog = list(self._backlog), deque(maxlen=QUEUE)
            for data in waiting:
                self.send(data)

        self._soon(after + DIAL, done)

    def check(self, present: list[Uplink], *, moved: bool) -> None:
        """The network changed: leave it if its address is gone, else ask whether it is there."""
        if self.uplink is None:
            self._failures = 0
            self.redial()
        elif self.uplink not in present or (moved and self.uplink is not self._way_out()):
            self.redial()
        else:
            self._ask(2 * RELAY_DELAY if self.broken else PATIENCE)

    def _ask(self, patience: float) -> None:
        number = self._dial

        def over() -> None:
            if number == self._dial and not self.works:
                self.redial()

        self._soon(patience, over)

    def send(self, data: bytes) -> None:
        """Handed on, kept until there is a connection, or lost."""
        if self.uplink is None:
            self._backlog.append(data)
        elif self.works:
            self._carry(data)
        elif self.broken and self.uplink is self._way_out() and self.uplink.works:
            self._ask(2 * RELAY_DELAY)  # what is not known is reset
