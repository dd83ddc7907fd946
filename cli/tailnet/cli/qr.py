"""A URL as a QR code, for terminals and as an image.

Light modules are drawn and dark ones left out: terminals are dark as a rule, as upstream assumes.

Source: tailscale cmd/tailscale/cli/up.go, qr-format.
"""

import sys

FORMATS = ("auto", "ascii", "large", "small")
QUIET = 2  # modules around the code; two are enough for every reader tried


def terminal(url: str, style: str) -> str:
    """Lines of text; ``style`` is one of :data:`FORMATS`."""
    import segno  # noqa: PLC0415 - only --qr needs it

    rows = [list(row) for row in segno.make_qr(url, error="l").matrix_iter(border=QUIET)]
    if style == "auto":
        style = "small" if "utf" in (sys.stderr.encoding or "").lower() else "ascii"
    if style == "small":
        rows += [[1] * len(rows[0])] * (len(rows) % 2)
        half = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
        pairs = zip(rows[::2], rows[1::2], strict=True)
        return "\n".join(
            "".join(half[bool(up), bool(down)] for up, down in zip(*pair, strict=True))
            for pair in pairs
        )
    light = "##" if style == "ascii" else "██"
    return "\n".join("".join("  " if dark else light for dark in row) for row in rows)


def image(url: str) -> str:
    """A ``data:`` URL of a PNG."""
    import segno  # noqa: PLC0415 - only --json --qr needs it

    text: str = segno.make_qr(url, error="l").png_data_uri(scale=4)
    return text
