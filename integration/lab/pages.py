r"""Pages of the documentation as scripts: what stands in a console block is typed.

::

    <!-- not run: needs a browser -->        the next block is only shown
    <!-- stays -->                           its commands keep running, until the page ends
    <!-- an example -->                      they run, but what they print is not compared
    <!-- file: box /etc/resolv.conf -->      it is the content of this file on this machine
    ```console
    box# tnet status                         as root on the machine "box"
    100.64.0.1  box  alice@  linux  -        what is printed: numbers stand for any number,
    …                                        and this for anything, within a line or lines of it
    other$ curl http://box:8000/ \            as nobody, on another one; the line goes on
        --silent
    ```

Comments are not seen by a reader, on a site or elsewhere.
"""

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^```(\w*)$")
_NOTE = re.compile(r"^<!-- (not run|stays|an example|file)(?:: (.+))? -->$")
_PROMPT = re.compile(r"^([a-z][a-z0-9]*)?([#$]) (.+)$")
_LENGTH = re.compile(r"\d+(?:\.\d+)?(?:µs|ms|s|m|h|d)?\b")


class BadPage(Exception):
    """A page cannot be read as a script; the text names the line."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command line and what a reader is told it prints.

    Attributes:
        host: name of the machine; empty: the page's first.
        root: or nobody.
        text: for a shell.
        shown: lines of output.
    """

    host: str
    root: bool
    text: str
    shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the page.

    Attributes:
        line: of its first fence, from 1.
        why_not: reason why it is not run; empty: it is.
        stays: commands keep running.
        example: output is not compared.
        file: machine and path that ``text`` is written to; empty: it is commands.
        text: as it stands there.
        commands: what is typed; none of a file.
    """

    line: int
    why_not: str
    stays: bool
    example: bool
    file: str
    text: str
    commands: tuple[Command, ...]


def blocks(page: str) -> list[Block]:
    """All console blocks and files of a page, in order.

    Raises:
        BadPage: a note without its block, or a block that does not begin with a prompt.
    """
    found: list[Block] = []
    note: tuple[str, str] | None = None
    lines = iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        if (fence := _FENCE.match(line)) is not None:
            inside: list[str] = []
            for _, text in lines:
                if text == "```":
                    break
                inside.append(text)
            kind, more = note or ("", "")
            if fence[1] == "console" or kind == "file":
                file = more if kind == "file" else ""
                commands = () if file else _commands(inside, number)
                why_not = more if kind == "not run" else ""
                text = "\n".join(inside) + "\n"
                stays, example = kind == "stays", kind == "an example"
                found.append(Block(number, why_not, stays, example, file, text, commands))
            note = None
        elif (said := _NOTE.match(line)) is not None:
            note = (said[1], said[2] or "")
        elif note is not None and line.strip():
            msg = f"line {number}: a note for no block"
            raise BadPage(msg)
    return found


def _commands(lines: list[str], number: int) -> tuple[Command, ...]:
    typed: list[tuple[str, bool, str]] = []
    shown: list[list[str]] = []
    for line in lines:
        if typed and typed[-1][2].endswith("\\") and not shown[-1]:
            host, root, text = typed[-1]
            typed[-1] = (host, root, text[:-1] + line.strip())
        elif (prompt := _PROMPT.match(line)) is not None:
            typed.append((prompt[1] or "", prompt[2] == "#", prompt[3]))
            shown.append([])
        elif not typed:
            msg = f"line {number}: a console block begins with a prompt, not with {line!r}"
            raise BadPage(msg)
        else:
            shown[-1].append(line)
    return tuple(
        Command(host, root, text, tuple(said))
        for (host, root, text), said in zip(typed, shown, strict=True)
    )


def differs(shown: tuple[str, ...], printed: str) -> str:
    """The first shown line that was not printed where it should be; empty: all were.

    Numbers, lengths of time and the width of gaps may differ.
    """
    said = [_plain(line) for line in printed.splitlines() if line.strip()]
    wanted = [_plain(line) for line in shown if line.strip()]
    return _differs(wanted, said)


def _differs(wanted: list[str], said: list[str]) -> str:
    for at, line in enumerate(wanted):
        if line == "…":
            rest = wanted[at + 1 :]
            tries = [_differs(rest, said[skip:]) for skip in range(at, len(said) + 1)]
            return "" if "" in tries else tries[0]
        if at >= len(said) or not _like(line, said[at]):
            return line
    return "" if len(said) == len(wanted) else f"(nothing more) but {said[len(wanted)]!r}"


def _plain(line: str) -> str:
    return " ".join(_LENGTH.sub("0", line).split())


def _like(wanted: str, said: str) -> bool:
    pattern = ".*".join(map(re.escape, wanted.split("…")))
    return re.fullmatch(pattern, said) is not None
