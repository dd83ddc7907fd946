"""Commands that change something and return: ``down``, ``set``, ``logout``; and ``wait``."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from tests.support.tnet import RUNNING, Daemon, edits

from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.main import cli


def test_down_and_down_again(daemon: Daemon) -> None:
    """Both succeed; the second one says that nothing was done."""
    assert (daemon.run("down").exit_code, edits(daemon)) == (0, [({"WantRunning": False},)])
    daemon.backend.about = Status(backend_state="Stopped")
    again = daemon.run("down")
    assert (again.exit_code, again.stderr) == (0, "Tailscale was already stopped.\n")


def test_down_on_a_full_disk_says_how_long_it_holds(daemon: Daemon) -> None:
    """Said again it is tried again, since there may be room by then."""
    why = "cannot write the state file /s: No space left on device; free some space"
    for state in ("Running", "Stopped"):
        daemon.backend.about = Status(backend_state=state, health=(why,))
        done = daemon.run("down")
        assert (done.exit_code, len(edits(daemon))) == (0, 1)
        assert done.stderr == f"disconnected until tailnetd or this machine starts again: {why}\n"
        daemon.backend.calls.clear()


def test_set_changes_what_is_mentioned(daemon: Daemon) -> None:
    """And prints nothing; without flags it shows help."""
    args = ("--accept-routes", "--advertise-routes=192.0.2.0/24, 2001:db8::/48", "--no-accept-dns")
    result = daemon.run("set", *args)
    assert (result.exit_code, result.output) == (0, "")
    routes = ["192.0.2.0/24", "2001:db8::/48"]
    accepts = {"RouteAll": True, "AcceptRoutes": []}
    assert edits(daemon) == [({**accepts, "CorpDNS": False, "AdvertiseRoutes": routes},)]
    assert daemon.run("set").stdout.startswith("Usage:")
    refused = daemon.run("set", "--hostname=a_b")
    assert (refused.exit_code, "bad hostname 'a_b'" in refused.stderr) == (1, True)
    assert daemon.run("set", "--login-server=x").exit_code == 2


@pytest.mark.parametrize("port", ["abc", "5x", "0x10", "1.5"])
def test_a_relay_server_port_that_is_no_number(daemon: Daemon, port: str) -> None:
    """The daemon could only say of which type it is."""
    result = daemon.run("set", f"--relay-server-port={port}")
    assert result.exit_code == 1
    form = "it is 0 to 65535, 0 for any, empty for none"
    assert result.stderr == f"bad relay server port '{port}': {form}\n"


def test_logout(daemon: Daemon) -> None:
    """Silent."""
    assert (daemon.run("logout").exit_code, daemon.backend.calls) == (0, [("logout",)])


def test_wait(daemon: Daemon, tmp_path: Path) -> None:
    """0 when the address is on an interface, 1 when the patience ends."""
    assert daemon.run("wait", "--timeout=5s").exit_code == 0
    daemon.backend.about = msgspec.structs.replace(RUNNING, tailscale_ips=("192.0.2.77",))
    assert daemon.run("wait", "--timeout=20ms").exit_code == 1
    result = CliRunner().invoke(cli, ["--socket", f"{tmp_path}/x", "wait", "--timeout=20ms"])
    assert result.exit_code == 1
