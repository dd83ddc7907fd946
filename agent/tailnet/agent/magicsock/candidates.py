"""All addresses at which one peer may be reached, bounded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.candidate import (
    MAX_CANDIDATES,
    MAX_LISTED,
    Candidate,
    usable,
)

MAX_ALONG = 8  # addresses that get the first message of a handshake with their ping
MAX_BACK = 3  # addresses that get a handshake message because the peer was heard from there


class Candidates(Mapping[AddrPort, Candidate]):
    """At most ``MAX_CANDIDATES``; what nobody claims any longer is removed."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[AddrPort, Candidate] = {}

    def __getitem__(self, addr: AddrPort) -> Candidate:
        return self._known[addr]

    def __iter__(self) -> Iterator[AddrPort]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def claim(
        self, endpoints: Sequence[AddrPort], now: float, claim: Callable[[Candidate, bool], None]
    ) -> None:
        """These addresses are claimed, and no others; ``claim`` notes it of one address."""
        listed = dict.fromkeys(filter(usable, endpoints[:MAX_LISTED]))
        for addr, candidate in self._known.items():
            claim(candidate, addr in listed)
        self.expire(now)
        for addr in listed:
            if (known := self.find(addr, now)) is not None:
                claim(known, True)

    def find(self, addr: AddrPort, now: float) -> Candidate | None:
        """The candidate, made if there is room."""
        candidate = self._known.get(addr)
        if candidate is not None:
            return candidate
        if len(self._known) >= MAX_CANDIDATES:
            self.expire(now)
            if len(self._known) >= MAX_CANDIDATES:
                return None
        candidate = self._known[addr] = Candidate()
        return candidate

    def asked(self, now: float) -> list[AddrPort]:
        """Some of those that are being pinged at this very moment."""
        asked = (addr for addr, known in self._known.items() if known.pinged_at == now)
        return list(islice(asked, MAX_ALONG))

    def present(self, now: float) -> list[AddrPort]:
        """Some of those that the peer was just heard from."""
        present = (addr for addr, known in self._known.items() if known.present(now))
        return list(islice(present, MAX_BACK))

    def expire(self, now: float) -> None:
        """Remove what nobody claims."""
        for addr in [a for a, candidate in self._known.items() if candidate.expired(now)]:
            del self._known[addr]
