"""``tnet whois`` and ``tnet whoami``."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.agent.localapi.test_who import tailnet
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import RUNNING, Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Running, in Alice's tailnet."""
    about = msgspec.structs.replace(RUNNING, tailscale_ips=("100.64.0.1",))
    backend = FakeBackend(about=about, known=tailnet())
    path = tmp_path / "s"
    with served(backend, path):
        yield Daemon(backend, path)


def test_whois_in_words(daemon: Daemon) -> None:
    """Machine, user, and what they may do here."""
    shown = daemon.run("whois", "100.64.0.2:443")
    assert shown.exit_code == 0
    assert shown.output.splitlines() == [
        "Machine:",
        "  Name:       box.example.ts.net",
        "  ID:",
        "  Addresses:  [100.64.0.2/32 fd7a:115c:a1e0::2/128]",
        "User:",
        "  Name:  alice@example.com",
        "  ID:    7",
        "Capabilities:",
        "  - example.com/cap/x:",
        "      {",
        '        "role": "admin"',
        "      }",
    ]
    assert json.loads(daemon.run("whois", "--json", "100.64.0.2").output)["Node"]["ID"] == 2


def test_whoami_adds_the_tailnet(daemon: Daemon) -> None:
    """In words and in JSON."""
    shown = daemon.run("whoami").output.splitlines()
    assert "  Addresses:  [100.64.0.1/32 fd7a:115c:a1e0::1/128]" in shown
    assert "Tailnet:" in shown
    assert "CurrentTailnet" in json.loads(daemon.run("whoami", "--json").output)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("100.64.0.77", "no node of this tailnet has the address 100.64.0.77"),
        ("nonsense", "invalid 'addr' parameter"),
    ],
)
def test_whois_of_nobody_is_one_line(daemon: Daemon, address: str, says: str) -> None:
    """And exit code 1."""
    shown = daemon.run("whois", address)
    assert (shown.exit_code, shown.stderr.strip()) == (1, says)
