"""The manual."""

import shutil
import subprocess

import pytest
from integration.package.man import escape, pages

from tailnet.cli.main import COMMANDS

PAGES = dict(pages())


def test_every_command_has_a_page() -> None:
    """And the daemon; each is named by the page of the program."""
    assert PAGES.keys() >= {"tailnetd.8", "tnet.1", *(f"tnet-{name}.1" for name in COMMANDS)}
    for name in COMMANDS:
        assert f".BR tnet\\-{name.replace('-', chr(92) + '-')} (1)" in PAGES["tnet.1"]
    assert "\\-\\-until\\-direct" in PAGES["tnet-ping.1"]


def test_text_stays_text() -> None:
    """Neither a dot at its beginning nor a backslash is a request."""
    assert escape(".x\\y") == "\\&.x\\ey"
    assert escape("…") == "\\[u2026]"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_formatter_has_nothing_to_say(name: str) -> None:
    """With all its warnings."""
    if not shutil.which("groff"):
        pytest.skip("needs groff")
    command = ["groff", "-man", "-Tutf8", "-ww", "-z"]
    done = subprocess.run(command, input=PAGES[name], capture_output=True, text=True, check=True)
    assert done.stderr == ""
