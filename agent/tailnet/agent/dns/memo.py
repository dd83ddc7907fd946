"""Answers of ours that are known by heart.

A resolver of the host asks the same few names again and again.  The same bytes, but for the id, get
the same bytes, until a name changes.
"""

from typing import NamedTuple

from tailnet.agent.dns.local import Outcome

MAX_MEMO = 4096  # answers; then all are forgotten, which costs each of them one look-up
MAX_QUERY = 320  # bytes of a query that is worth remembering: a name, and EDNS with a cookie
_ID = 2  # bytes


class _Known(NamedTuple):
    tail: bytes
    outcome: Outcome


class Memo:
    """Answers by query, as they go out by UDP."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}

    def answer(self, query: bytes) -> tuple[bytes, Outcome] | None:
        """To a query that is known."""
        known = self._known.get(query[_ID:])
        return None if known is None else (query[:_ID] + known.tail, known.outcome)

    def learn(self, query: bytes, answer: bytes, outcome: Outcome) -> None:
        """The answer to give from now on."""
        if len(query) > MAX_QUERY:
            return
        if len(self._known) >= MAX_MEMO:
            self._known.clear()
        self._known[query[_ID:]] = _Known(answer[_ID:], outcome)

    def forget(self) -> None:
        """A name has changed, or whom it is asked of."""
        self._known.clear()
