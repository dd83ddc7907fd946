"""Man pages from the commands themselves: ``python -m integration.package.man DIRECTORY``.

One page a command, in troff with the man macros: tnet.1, tnet-up.1 …, tailnetd.8.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tailnet.agent._version import __version__
from tailnet.agent.main import command as daemon
from tailnet.cli.main import COMMANDS, cli


def escape(text: str) -> str:
    """Text that troff shows as it is, in ASCII: not every formatter reads UTF-8."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return "\\&" + text if text.startswith((".", "'")) else text


def page(command: click.Command, title: str, section: int, brief: str) -> str:
    """A whole page.

    Args:
        command: what it is about.
        title: as in its file's name.
        section: of the manual.
        brief: one line.
    """
    ctx = click.Context(command, info_name=title.replace("tnet-", "tnet "))
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    lines = [
        f'.TH {title.upper()} {section} "" "tailnet {__version__}"',
        ".SH NAME",
        f"{escape(title)} \\- {escape(brief)}",
        ".SH SYNOPSIS",
        escape(usage),
        ".SH DESCRIPTION",
        escape(command.help or brief),
        ".SH OPTIONS",
        *_options(command, ctx),
    ]
    if command is cli:
        lines.append(".SH COMMANDS")
        for name, what in COMMANDS.items():
            lines += [".TP", f".BR tnet\\-{escape(name)} (1)", escape(what)]
    other = "tnet" if command is daemon else "tailnetd"
    lines += [".SH SEE ALSO", f".BR {other} ({1 if other == 'tnet' else 8})"]
    return "\n".join(lines) + "\n"


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield from (".TP", f".B {escape(record[0].strip())}", escape(record[1]))


def pages() -> Iterator[tuple[str, str]]:
    """Name and text of every page."""
    yield "tailnetd.8", page(daemon, "tailnetd", 8, "tailnet node agent")
    yield "tnet.1", page(cli, "tnet", 1, "talk to tailnetd")
    for name, brief in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        if command is not None:
            yield f"tnet-{name}.1", page(command, f"tnet-{name}", 1, brief)


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
