"""JSON for programs, which people look at in a terminal, too."""

from msgspec import json


def indented(value: object) -> str:
    """A value, or JSON as bytes, with two blanks a level and nothing that a terminal acts on."""
    data = value if isinstance(value, bytes) else json.encode(value)
    return harmless(json.format(data, indent=2).decode())


def harmless(text: str) -> str:
    """The same JSON, with what is no visible character escaped (RFC 8259, section 7)."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
