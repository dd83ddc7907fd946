"""``tnet status``: what it prints, and how it ends."""

import json

from tests.support.tnet import Daemon

from tailnet.agent.localapi.schema.status import Status


def test_status_lists_peers(daemon: Daemon) -> None:
    """Self first."""
    assert daemon.run("status").stdout == (
        "127.0.0.1   me   -    offline\n100.64.0.2  box  -    -\n"
    )


def test_status_in_json_is_the_daemons(daemon: Daemon) -> None:
    """Two spaces, no newline at the end."""
    result = daemon.run("status", "--json")
    assert result.stdout.startswith('{\n  "Version":')
    assert result.stdout.endswith("\n}")
    assert json.loads(result.stdout)["Peer"]["nodekey:2"]["HostName"] == "box"
    assert json.loads(daemon.run("status", "--json", "--active").stdout)["Peer"] == {}


def test_status_of_a_stopped_daemon_exits_with_one(daemon: Daemon) -> None:
    """One line."""
    daemon.backend.about = Status(backend_state="Stopped")
    result = daemon.run("status")
    assert (result.exit_code, result.stdout) == (1, "Tailscale is stopped.\n")


def test_what_is_wrong_is_said_once(daemon: Daemon) -> None:
    """Below the table of a machine that is starting, below the line about one that has no table."""
    wrong = ("the relay of region 1 cannot be reached",)
    for state, exit_code in (("Starting", 0), ("NoState", 1), ("NeedsLogin", 1)):
        daemon.backend.about = Status(backend_state=state, health=wrong)
        result = daemon.run("status")
        assert result.exit_code == exit_code
        assert result.stdout.count(wrong[0]) == 1
        assert result.stdout.endswith(f"# Health check:\n#     - {wrong[0]}\n")
