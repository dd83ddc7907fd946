"""What a shell offers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from tailnet.agent.localapi.schema.status import PeerStatus, Status
from tailnet.cli.client import LocalClient
from tailnet.cli.completing import VARIABLE
from tailnet.cli.main import cli
from tailnet.client.errors import NotRunning

PEERS = {
    "1": PeerStatus(dns_name="box.x.ts.net."),
    "2": PeerStatus(dns_name="bread.x.ts.net."),
    "3": PeerStatus(dns_name="b$(reboot).x.ts.net."),
}


def offered(args: list[str], begun: str) -> list[str]:
    """After these words, for one that begins so."""
    found = BashComplete(cli, {}, "tnet", VARIABLE).get_completions(args, begun)
    return [item.value for item in found]


def test_commands_and_flags_are_offered() -> None:
    """Also after a flag that still lacks its value."""
    assert offered([], "who") == ["whois", "whoami"]
    assert offered(["up"], "--exit-node-") == ["--exit-node-allow-lan-access"]
    assert "--reset" in offered(["up", "--nothing"], "--re")
    assert offered(["completion"], "") == ["bash", "zsh", "fish"]


def test_peers_are_offered_but_no_name_that_a_shell_would_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names come from the network."""
    monkeypatch.setattr(LocalClient, "status", lambda *_, **__: Status(peer=PEERS))
    for command in ("ping", "ip", "path", "nc", "trace", "explain"):
        assert offered([command], "b") == ["box", "bread"]
    assert offered(["ping"], "bo") == ["box"]


def test_without_a_daemon_nothing_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is said."""

    def refuse(*_: object, **__: object) -> Status:
        msg = "no daemon"
        raise NotRunning(msg)

    monkeypatch.setattr(LocalClient, "status", refuse)
    assert offered(["ping"], "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    """Which asks tnet."""
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"{VARIABLE}={shell}_complete" in result.output


def test_a_real_bash_completes() -> None:
    """As it does when a key is pressed."""
    if not shutil.which("bash"):
        pytest.skip("needs bash")
    script = (
        "source <(tnet completion bash); COMP_WORDS=(tnet unin); COMP_CWORD=1; "
        '_tnet_completion tnet; echo "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("uninstall\n", "")


def test_licenses_name_what_is_installed() -> None:
    """Ours first among them."""
    result = CliRunner().invoke(cli, ["licenses"])
    assert result.exit_code == 0
    lines = [line.split(maxsplit=2) for line in result.output.splitlines()]
    assert {"tailnet", "click", "cryptography"} <= {line[0] for line in lines}
    assert "not said" not in result.output
