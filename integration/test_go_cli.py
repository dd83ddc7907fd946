"""Upstream's own command line at our daemon: whoever knows it is at home.

Skipped where there is none: ``make go-cli`` builds it, ``TAILSCALE_CLI`` names another.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.lab.go_cli import find
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.waiting import until
from tests.support.pprof import read_profile

PROGRAM = find()
pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(PROGRAM is None, reason="no tailscale: make go-cli, or TAILSCALE_CLI"),
]
WARNING = re.compile(r"^Warning: client version .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Said:
    """What a command did."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class GoCli:
    """The program on one host."""

    host: Host

    def __call__(self, *args: str | Path, timeout: float = 30) -> Said:
        """Whatever becomes of it."""
        done = self.run(*args, timeout=timeout)
        return Said(done.returncode, done.stdout, WARNING.sub("", done.stderr))

    def run(self, *args: str | Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Its streams apart."""
        command = [str(PROGRAM), "--socket", str(self.host.socket), *args]
        return self.host.exec(*command, check=False, timeout=timeout)

    def good(self, *args: str | Path) -> str:
        """What it prints; it must be content."""
        said = self(*args)
        assert (said.code, said.err.strip()) == (0, ""), said
        return said.out

    def json(self, *args: str) -> dict[str, object]:
        """The same, parsed."""
        tree: dict[str, object] = json.loads(self.good(*args))
        return tree


@pytest.fixture(scope="module")
def go(pair: Lab) -> GoCli:
    """On h1."""
    return GoCli(pair.hosts["h1"])


def test_status_and_addresses(pair: Lab, go: GoCli) -> None:
    """Lines and JSON."""
    own, other = pair.hosts["h1"].ipv4, pair.hosts["h2"].ipv4
    text = go.good("status")
    assert f"{own}" in text
    assert f"{other}" in text
    tree = go.json("status", "--json")
    assert tree["BackendState"] == "Running"
    assert tree["Self"]["HostName"] == "h1"  # type: ignore[index]
    assert go.good("ip", "-4").strip() == str(own)
    assert go.good("ip", "-4", "h2").strip() == str(other)


def test_pings_of_all_kinds(pair: Lab, go: GoCli) -> None:
    """Disco, TSMP, ICMP."""
    other = str(pair.hosts["h2"].ipv4)
    assert "pong from h2" in go.good("ping", "-c", "3", other)
    assert "via TSMP" in go.good("ping", "--tsmp", "-c", "1", other)
    assert "via ICMP" in go.good("ping", "--icmp", "-c", "1", other)


def test_whois(pair: Lab, go: GoCli) -> None:
    """Machine and user."""
    text = go.good("whois", str(pair.hosts["h2"].ipv4))
    assert "h2.lab.ts.net" in text
    assert "lab@example.com" in text
    assert go.json("whois", "--json", str(pair.hosts["h2"].ipv4))["UserProfile"]


def test_settings(pair: Lab, go: GoCli) -> None:
    """Set by one program, seen by the other."""
    host = pair.hosts["h1"]
    go.good("set", "--shields-up", "--accept-routes")
    assert host.tnet("get", "shields-up").stdout == "true\n"
    assert host.tnet("get", "accept-routes").stdout == "true\n"
    go.good("set", "--shields-up=false", "--accept-routes=false")
    assert go.json("debug", "prefs")["ShieldsUp"] is False
    refused = go("set", "--exit-node=192.0.2.1")
    assert (refused.code, refused.err.count("\n")) == (1, 1), refused


def test_names(go: GoCli) -> None:
    """``dns status`` and ``query``."""
    assert "lab.ts.net" in go.good("dns", "status")
    tree = go.json("dns", "status", "--json") if "--json" in go("dns", "status", "-h").err else {}
    assert not tree or tree["TailscaleDNS"] is True
    assert "RCodeSuccess" in go.good("dns", "query", "h2.lab.ts.net")


def test_the_network(go: GoCli) -> None:
    """``netcheck`` measures by itself; it takes the relays from us."""
    assert "Nearest DERP: lab900" in go.good("netcheck")


def test_accounts_and_exit_nodes(pair: Lab, go: GoCli) -> None:
    """Lists."""
    assert "lab@example.com*" in go.good("switch", "--list")
    assert "no exit nodes found" in go("exit-node", "list").err
    assert "No exit node suggestion" in go.good("exit-node", "suggest")


def test_metrics(go: GoCli) -> None:
    """Ours, by their command."""
    assert 'tailscaled_inbound_packets_total{path="direct_ipv4"}' in go.good("metrics", "print")
    assert "process_open_fds" in go.good("debug", "metrics")


def test_debugging(go: GoCli, tmp_path: Path) -> None:
    """What looks inside."""
    assert go.json("debug", "derp-map")["Regions"]
    assert go.json("debug", "netmap")["Peers"]
    for action in ("restun", "rebind", "force-netmap-update", "break-derp-conns"):
        go.good("debug", action)
    go.good("debug", "break-tcp-conns")
    assert "Enabled debug logs" in go.good("debug", "component-logs", "magicsock")
    assert go.good("debug", "daemon-goroutines")
    go.json("debug", "control-knobs")
    watched = go("debug", "watch-ipn", "--count=1", "--initial")
    assert json.loads(watched.out)["SessionID"]
    assert json.loads(go.good("debug", "peer-relay-servers")) == []


def test_what_is_tried_out(pair: Lab, go: GoCli, tmp_path: Path) -> None:
    """Relays, the router, ways to connect, profiles."""
    assert go.json("debug", "derp", "lab900")["Errors"] == []
    assert "no mapping" in go.good("debug", "portmap", "--duration=300ms", "--type=pmp")
    go.good("debug", "force-prefer-derp", "900")
    assert "no other region" in go("debug", "pick-new-derp").err
    assert "pong from h2" in go.good("ping", "-c", "5", "h2")
    assert json.loads(go.good("debug", "peer-endpoint-changes", str(pair.hosts["h2"].ipv4)))
    port = str(pair.hosts["h2"].status()["Self"]["PeerAPIURL"][0].rpartition(":")[2])
    tried = go("debug", "dial-types", "h2", port)
    assert "[UserDial] connected=true err=<nil>\n" in tried.out
    for flag in ("--cpu-profile", "--mem-profile"):
        assert go("debug", f"{flag}={tmp_path / flag}", "--profile-seconds=1").code == 0
        assert read_profile((tmp_path / flag).read_bytes()).kinds


def test_the_log_is_followed(go: GoCli) -> None:
    """Line by line; it would go on for ever."""
    command = [str(PROGRAM), f"--socket={go.host.socket}", "debug", "daemon-logs"]
    following = go.host.spawn("daemon-logs", *command)

    def heard() -> bool:
        go.good("bugreport", "is anybody there")
        return "is anybody there" in following.tail()

    until("a line of the log", heard, 20)
    following.stop()


def test_bugreport(go: GoCli) -> None:
    """A marker of upstream's form."""
    assert re.fullmatch(r"BUG-[0-9a-f]{64}-\d{14}Z-[0-9a-f]{16}\n", go.good("bugreport", "hello"))


def test_what_is_not_here_is_said(go: GoCli) -> None:
    """In one line, not as a crash."""
    for args in (("file", "cp", "--targets"), ("cert", "h1.lab.ts.net"), ("drive", "list")):
        said = go(*args)
        assert said.code == 1
        assert "not supported yet" in said.err, said


def test_down_up_and_logout(pair: Lab, go: GoCli) -> None:
    """Last: the whole way with their program alone."""
    host = pair.hosts["h1"]
    go.good("down")
    assert go("status").code == 1
    go.good("up", f"--login-server={host.login_server}", "--hostname=h1")
    host.wait_running(20)
    go.good("logout")
    assert "Logged out" in go("status").out
