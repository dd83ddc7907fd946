"""HTML from text that nobody vouches for: everything is escaped unless it is markup already."""

from collections.abc import Iterable

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_VOID = frozenset({"br", "hr", "img", "input"})  # of HTML; shapes of SVG are closed as all others


class Markup(str):
    """Text that is HTML; only functions of this module make it of other text."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Text as HTML: nothing in it is a tag, and nothing moves a cursor."""
    if isinstance(text, Markup):
        return text
    plain = "".join(c for c in str(text) if c.isprintable())
    return Markup("".join(_ESCAPES.get(c, c) for c in plain))


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """An element; ``class_`` is ``class``, ``data_x`` is ``data-x``, ``None`` is left out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(inside)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """One after the other; ``None`` is nothing."""
    return Markup("".join(escape(part) for part in parts if part is not None))
