"""The three slots for a peer's sessions.

Source: WireGuard paper §6.3; wireguard-go noise-protocol.go BeginSymmetricSession,
ReceivedWithKeypair.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

S = TypeVar("S")


class Keypairs(Generic[S]):
    """Previous, current and next; whatever ``S`` is, it is told apart by identity.

    Only ``current`` sends; all three receive.  Every method that evicts returns what it evicted,
    so that the caller can remove it from its index table.
    """

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.previous: S | None = None
        self.current: S | None = None
        self.next: S | None = None

    def __iter__(self) -> Iterator[S]:
        return (s for s in (self.previous, self.current, self.next) if s is not None)

    def add_initiator(self, session: S) -> list[S]:
        """Our initiation was answered: send with ``session`` at once."""
        if self.next is not None:
            gone = (self.previous, self.current)
            self.previous = self.next
        else:
            gone = (self.previous, None)
            self.previous = self.current
        self.next = None
        self.current = session
        return [s for s in gone if s is not None]

    def add_responder(self, session: S) -> list[S]:
        """We answered an initiation: wait for the proof that the initiator has the key."""
        gone = (self.previous, self.next)
        self.previous = None
        self.next = session
        return [s for s in gone if s is not None]

    def confirm(self, session: S) -> list[S] | None:
        """A packet authenticated on ``session``; if that was ``next`` it becomes current.

        Returns:
            What was evicted, or ``None`` when nothing changed.
        """
        if session is not self.next:
            return None
        gone = self.previous
        self.previous = self.current
        self.current = session
        self.next = None
        return [] if gone is None else [gone]

    def drop(self, session: S) -> bool:
        """Empty the slot of ``session``; false when it is in none."""
        for slot in self.__slots__:
            if getattr(self, slot) is session:
                setattr(self, slot, None)
                return True
        return False

    def clear(self) -> list[S]:
        """Empty all slots; returns what was in them."""
        gone = list(self)
        self.previous = self.current = self.next = None
        return gone
