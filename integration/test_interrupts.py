"""``tnet up`` and ``login`` may end at any point: ``tnet status`` explains what is, ``up`` works.

The signal comes after the N-th exchange with the daemon, so that every point is met, whatever the
machine's speed.
"""

import signal
import subprocess
import sys

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import BIN, Host
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(240)]

POINTS = 14  # more than a login has
EXPLAINED = ("Logged out.", "Tailscale is stopped.", "Machine is not yet approved")
DRIVER = """
import os, sys
from tailnet.client.sync import Client, Watch
left, number = int(sys.argv[1]), int(sys.argv[2])
def counted(original):
    def wrapper(*args):
        global left
        answer = original(*args)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)
        return answer
    return wrapper
Client._begin, Watch.next_line = counted(Client._begin), counted(Watch.next_line)
sys.argv = ["tnet", *sys.argv[3:]]
from tailnet.cli import start
start.leave = sys.exit  # with the line below
try:
    start.main()
finally:
    sys.stderr.write(f"left {left}\\n")
"""


@pytest.fixture(scope="module")
def host(make_lab: MakeLab) -> Host:
    """Never logged in."""
    lab = make_lab(flat("h1"))
    host = lab.hosts["h1"]
    host.start()
    return host


def interrupted(host: Host, point: int, number: int, *args: str) -> tuple[int, str]:
    """Run ``tnet`` until its exchange of that number, then send a signal."""
    command = [sys.executable, "-c", DRIVER, str(point), str(number), f"--socket={host.socket}"]
    done = subprocess.run(
        [*command, *args],
        env=host.environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stderr


def check_explained(host: Host) -> None:
    """One of the states that the command names, or the table of nodes."""

    def settled() -> bool:
        return host.status()["BackendState"] not in ("NoState", "Starting")

    until("a state that stays", settled, 15.0)
    shown = host.tnet("status", check=False)
    assert "unexpected" not in shown.stdout
    assert shown.stderr == ""
    if shown.returncode != 0:
        assert shown.stdout.startswith(EXPLAINED), shown.stdout
    else:
        assert "h1" in shown.stdout


@pytest.mark.parametrize(
    ("command", "key", "number"),
    [
        ("up", True, signal.SIGINT),
        ("up", False, signal.SIGINT),
        ("up", True, signal.SIGKILL),
        ("up", False, signal.SIGHUP),  # its terminal is closed
        ("login", True, signal.SIGINT),
    ],
    ids=["key-interrupt", "browser-interrupt", "key-kill", "browser-hangup", "login-interrupt"],
)
def test_a_login_may_end_at_any_point(host: Host, command: str, key: bool, number: int) -> None:
    """Points are met one after the other, until there is none left."""
    login = [command, f"--login-server={host.login_server}", "--hostname=h1"]
    login += [f"--auth-key={AUTH_KEY}"] if key else ["--timeout=1s"]
    met = 0
    for point in range(1, POINTS):
        code, said = interrupted(host, point, number, *login)
        check_explained(host)
        if "left 0" not in said and code in (0, 1):
            break  # it ended before
        met += 1
        assert "Traceback" not in said, said
        assert code == (130 if number == signal.SIGINT else -number), (point, code, said)
        if number == signal.SIGINT and point >= 8:
            assert "tailnetd goes on without us" in said
        host.tnet("logout")
    assert met >= 6
    assert "Traceback" not in host.log.read_text()
    host.up(AUTH_KEY, timeout=20.0)
    host.wait_running()
    host.tnet("logout")


SCRIPTS = {
    "wait": "tnet up --auth-key={key} {flags} && tnet wait --timeout=10s && tnet ip -4",
    "jq": "tnet status --json | jq -r .BackendState",
    "idempotent": "tnet up {flags} && tnet up {flags} && tnet up && tnet get hostname",
    "json": "tnet up --json {flags} | jq -r .BackendState",
    "condition": "if tnet ip --assert=192.0.2.1 2>/dev/null; then echo yes; else echo no; fi",
    "down": "tnet down && tnet down 2>&1; tnet status || echo stopped; tnet up && tnet wait",
    "closed": "tnet status >&- && echo fine",
}


def test_scripts(host: Host) -> None:
    """As a shell runs them, errors and all (``set -eu``)."""
    flags = f"--login-server={host.login_server} --hostname=h1"

    def sh(name: str) -> str:
        text = SCRIPTS[name].format(key=AUTH_KEY, flags=flags)
        return host.exec(
            "sh", "-euc", f"tnet() {{ command {BIN / 'tnet'} "
            f"--socket={host.socket} \"$@\"; }}; {text}",
        ).stdout.strip()  # fmt: skip

    address = sh("wait")
    assert address == str(host.ipv4)
    assert sh("jq") == "Running"
    before = host.status()["Self"]["PublicKey"]
    assert sh("idempotent") == "h1"
    assert sh("json") == "Running"
    assert host.status()["Self"]["PublicKey"] == before
    assert sh("condition") == "no"
    assert sh("down") == "Tailscale was already stopped.\nTailscale is stopped.\nstopped"
    assert sh("closed") == "fine"
