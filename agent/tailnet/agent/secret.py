"""Bytes that must never be printed."""


class Secret:
    """Immutable secret bytes: no ``repr``, no ``str``, no hashing, constant content.

    Attributes:
        raw: the bytes themselves; whoever touches this attribute is visible in a search.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = bytes(raw)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.raw == self.raw

    __hash__ = None  # type: ignore[assignment]


def redact(text: str) -> str:
    """Shorten an auth key or similar for a log line: its kind, never its content."""
    head, dash, _ = text.rpartition("-")
    return f"{head}-…" if dash and len(head) <= 32 else "…"
