"""A session that came through the tailnet is not cut off unasked."""

import pytest
from tests.support.tnet import Daemon, edits

from tailnet.cli.risk import over_tailnet

THROUGH = "100.64.0.2 50000 22"


@pytest.mark.parametrize(
    ("client", "through"),
    [
        (THROUGH, True),
        ("100.127.255.255 1 22", True),
        ("fd7a:115c:a1e0::2 1 22", True),
        ("100.128.0.1 1 22", False),
        ("100.6.0.1 1 22", False),
        ("192.0.2.1 1 22", False),
        ("100 1 22", False),
        ("", False),
    ],
)
def test_a_session_is_known_by_the_address_it_came_from(
    monkeypatch: pytest.MonkeyPatch, client: str, through: bool
) -> None:
    """Of the tailnet's ranges."""
    monkeypatch.setenv("SSH_CLIENT", client)
    assert over_tailnet() is through


@pytest.mark.parametrize(
    "args", [("down",), ("set", "--shields-up"), ("up", "--force-reauth", "--auth-key=k")]
)
def test_nothing_is_done_unasked(daemon: Daemon, args: tuple[str, ...]) -> None:
    """Where nobody can answer, the flag is named."""
    refused = daemon.run(*args, SSH_CLIENT=THROUGH)
    assert refused.exit_code == 1
    assert refused.stderr.endswith(
        "aborted, no changes made; to do it all the same: --accept-risk=lose-ssh\n"
    )
    assert edits(daemon) == []


@pytest.mark.parametrize("risk", ["lose-ssh", "all", "mac-app-connector, lose-ssh"])
def test_who_accepts_the_risk_is_not_asked(daemon: Daemon, risk: str) -> None:
    """Nor who is at the machine."""
    assert daemon.run("down", f"--accept-risk={risk}", SSH_CLIENT=THROUGH).exit_code == 0
    assert daemon.run("down", SSH_CLIENT="192.0.2.1 1 22").exit_code == 0
    assert edits(daemon) == [({"WantRunning": False},)] * 2


def test_a_risk_that_does_not_exist_is_a_mistake(daemon: Daemon) -> None:
    """With those there are."""
    wrong = daemon.run("down", "--accept-risk=lose-sh")
    assert (wrong.exit_code, "unknown risk 'lose-sh'; there are lose-ssh" in wrong.stderr) == (
        2,
        True,
    )
