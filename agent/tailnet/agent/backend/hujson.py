"""JSON with comments and trailing commas, made into plain JSON.

Comments (``// …`` to the end of the line, ``/* … */``) become spaces, and so does a comma before a
closing bracket; every byte keeps its position, so that a parser's complaint points to the right
place.  Text that is plain JSON stays as it is.

Source: https://nigeltao.github.io/blog/2021/json-with-commas-comments.html.
"""

import re

from tailnet.agent.errors import UserError

_TOKEN = re.compile(
    rb"""
    (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<open>/\*)
  | (?P<comma>,)
  | (?P<close>[\]}])
  | (?P<space>[ \t\r\n]+)
  | (?P<other>[^"/,\]}\ \t\r\n]+|["/])
    """,
    re.VERBOSE | re.DOTALL,
)


def standardize(data: bytes) -> bytes:
    """Plain JSON of the same length.

    Raises:
        UserError: a comment has no end.
    """
    out = bytearray(data)
    comma = -1  # position of a comma with nothing but space after it so far
    value = False  # something stands before it that it can end
    for token in _TOKEN.finditer(data):
        kind = token.lastgroup
        if kind == "open":
            msg = "a comment has no end"
            raise UserError(msg)
        if kind == "comment":
            out[token.start() : token.end()] = re.sub(rb"[^\n]", b" ", token[0])
        elif kind == "comma":
            comma = token.start() if value else -1
            value = False
        elif kind == "close":
            if comma >= 0:
                out[comma : comma + 1] = b" "
            comma, value = -1, True
        elif kind != "space":
            comma = -1
            value = token[0][-1:] not in b"[{:"
    return bytes(out)
