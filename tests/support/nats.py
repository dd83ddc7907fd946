"""Address translators in virtual time, in the words of RFC 4787.

::

    kind          mapping                filtering
    FULL_CONE     endpoint-independent   none
    RESTRICTED    endpoint-independent   by address
    INDEPENDENT   endpoint-independent   by address and port
    DEPENDENT     address and port       by address and port, random port: "symmetric"
"""

import random
from enum import Enum
from typing import NamedTuple

from tailnet.agent.addr import AddrPort


class Filtering(Enum):
    """Who may answer."""

    NONE = 0
    ADDRESS = 1
    ADDRESS_AND_PORT = 2


class Behaviour(NamedTuple):
    """Of one translator; ``symmetric``: a mapping per destination."""

    symmetric: bool
    filtering: Filtering


class Nat(Enum):
    """How a host is connected: translators from the inside out."""

    NONE = ()
    FULL_CONE = (Behaviour(symmetric=False, filtering=Filtering.NONE),)
    RESTRICTED = (Behaviour(symmetric=False, filtering=Filtering.ADDRESS),)
    INDEPENDENT = (Behaviour(symmetric=False, filtering=Filtering.ADDRESS_AND_PORT),)
    DEPENDENT = (Behaviour(symmetric=True, filtering=Filtering.ADDRESS_AND_PORT),)
    DOUBLE = (
        Behaviour(symmetric=False, filtering=Filtering.ADDRESS),
        Behaviour(symmetric=False, filtering=Filtering.ADDRESS_AND_PORT),
    )
    BLOCKED = None  # no UDP at all

    @property
    def symmetric(self) -> bool:
        """Nobody can tell the port in advance."""
        return any(b.symmetric for b in self.value or ())

    @property
    def strict(self) -> bool:
        """Only the very port that was asked may answer."""
        return any(b.filtering is Filtering.ADDRESS_AND_PORT for b in self.value or ())


def can_meet(a: Nat, b: Nat) -> bool:
    """Theory: a hole can be punched if no port must be guessed where ports are looked at."""
    if Nat.BLOCKED in (a, b):
        return False
    return not ((a.symmetric and b.strict) or (b.symmetric and a.strict))


class Box:
    """One translator.

    Attributes:
        ip: its outer address.
        hairpin: it lets the inside talk to its own outer address.
    """

    def __init__(
        self, rng: random.Random, ip: str, behaviour: Behaviour, *, hairpin: bool = False
    ) -> None:
        self._rng = rng
        self.ip = ip
        self.behaviour = behaviour
        self.hairpin = hairpin
        self._ports: dict[tuple[AddrPort, AddrPort | None], int] = {}
        self._inner: dict[int, AddrPort] = {}
        self._asked: set[tuple[int, AddrPort]] = set()

    def out(self, src: AddrPort, dst: AddrPort) -> AddrPort:
        """The source address outside; opens for answers."""
        key = src, dst if self.behaviour.symmetric else None
        if key not in self._ports:
            self._ports[key] = port = self._rng.randrange(1024, 65536)
            self._inner[port] = src
        port = self._ports[key]
        self._asked.add((port, dst))
        return AddrPort.of(self.ip, port)

    def into(self, port: int, src: AddrPort) -> AddrPort | None:
        """Where a datagram to ``port`` goes inside; ``None``: nowhere."""
        may = {
            Filtering.NONE: lambda _: True,
            Filtering.ADDRESS: lambda asked: asked.ip == src.ip,
            Filtering.ADDRESS_AND_PORT: lambda asked: asked == src,
        }[self.behaviour.filtering]
        asked = (dst for p, dst in self._asked if p == port)
        return self._inner.get(port) if any(map(may, asked)) else None

    def forget(self) -> None:
        """As after a restart: every mapping is another one."""
        self._ports.clear()
        self._inner.clear()
        self._asked.clear()
