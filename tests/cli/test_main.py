"""Whole commands against a real LocalAPI with nothing behind it."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from tests.support.fake_backend import FakeBackend
from tests.support.served import served

from tailnet.agent.backend.loginprofile import LoginProfile, NetworkProfile
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.localapi.schema import (
    STATES,
    VERSION,
    DatapathStatus,
    Notify,
    PeerStatus,
    PingResult,
    Status,
)
from tailnet.agent.tailcfg.node import UserID, UserProfile
from tailnet.cli.commands import ping
from tailnet.cli.main import COMMANDS, cli

ME = PeerStatus(
    host_name="me", dns_name="me.x.ts.net.", public_key="nodekey:1", tailscale_ips=("127.0.0.1",)
)
BOX = PeerStatus(
    host_name="box",
    dns_name="box.x.ts.net.",
    public_key="nodekey:2",
    tailscale_ips=("100.64.0.2", "fd7a:115c:a1e0::2"),
    online=True,
)
RUNNING = Status(
    backend_state="Running",
    have_node_key=True,
    tailscale_ips=("127.0.0.1",),
    self_=ME,
    magic_dns_suffix="x.ts.net",
    peer={"nodekey:2": BOX},
)
DIRECT = PingResult(
    ip="100.64.0.2",
    node_ip="100.64.0.2",
    node_name="box",
    endpoint="192.0.2.1:4",
    latency_seconds=0.0123,
)
RELAYED = msgspec.structs.replace(DIRECT, endpoint="", derp_region_id=1, derp_region_code="nyc")


@dataclass
class Daemon:
    """A fake one, and a shell to talk to it."""

    backend: FakeBackend
    path: Path
    uid: int = 0

    def run(self, *args: str, **env: str) -> Result:
        """Run ``tnet``."""
        return CliRunner(env={"TS_AUTHKEY": "", "USER": "", **env}).invoke(
            cli, ["--socket", str(self.path), *args]
        )

    def state(self, name: str, **changes: object) -> None:
        """Enter a state and tell the bus; only from ``on_start`` and such."""
        self.backend.about = msgspec.structs.replace(
            self.backend.about, backend_state=name, **changes
        )
        self.backend.bus.publish(Notify(state=STATES.index(name)))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Running, with one peer."""
    daemon = Daemon(FakeBackend(about=RUNNING), tmp_path / "s")
    daemon.backend.current = Prefs(control_url="https://c.example", logged_out=False)
    with served(daemon.backend, daemon.path, lambda _: daemon.uid):
        yield daemon


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "INTERVAL", 0.0)


def edits(daemon: Daemon) -> list[object]:
    """What was changed."""
    return [call[1:] for call in daemon.backend.calls if call[0] in ("edit", "start")]


# --- nobody there, nobody allowed


def test_without_a_daemon_there_is_one_line(tmp_path: Path) -> None:
    """It says how to start it."""
    for name in ("status", "up", "down", "ip"):
        result = CliRunner().invoke(cli, ["--socket", f"{tmp_path}/s", name])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            f"tailnetd is not running (no socket at {tmp_path}/s); "
            "start it with: sudo tailnetd --tun\n"
        )


def test_a_dead_socket_is_told_apart(tmp_path: Path) -> None:
    """Nobody answers."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/s")
    result = CliRunner().invoke(cli, ["status"], env={"TAILNETD_SOCKET": f"{tmp_path}/s"})
    assert "nobody answers at" in result.stderr


def test_who_may_not_write_gets_advice(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """How to be allowed."""
    daemon.uid = 12345
    monkeypatch.setattr("tailnet.client.sync.is_root", lambda: False)
    result = daemon.run("down")
    assert result.exit_code == 1
    assert result.stderr == (
        "prefs write access denied\n"
        "Use 'sudo tnet …', or run 'sudo tnet set --operator=$USER' once.\n"
    )


def test_another_version_is_mentioned_once(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr."""
    monkeypatch.setattr("tailnet.cli.client.VERSION", "9.9.9")
    result = daemon.run("down")
    assert result.stderr == (f'Warning: client version "9.9.9" != tailnetd version "{VERSION}"\n')


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nb\x1bad",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 200_000,
    ],
)
def test_nonsense_on_the_socket_is_an_error(tmp_path: Path, answer: bytes) -> None:
    """Whoever answers, the message is one clean line."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        listener.listen()

        def reply() -> None:
            conn, _ = listener.accept()
            with conn:
                conn.recv(1 << 16)
                with suppress(OSError):
                    conn.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        result = CliRunner().invoke(cli, ["--socket", f"{tmp_path}/s", "status"])
        thread.join()
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.strip().isprintable()


# --- reading


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


def test_ip(daemon: Daemon) -> None:
    """Of self and peers, by any of their names."""
    assert daemon.run("ip").stdout == "127.0.0.1\n"
    for name in ("box", "BOX.x.ts.net", "box.x.ts.net.", "100.64.0.2", "fd7a:115c:a1e0:0::2"):
        assert daemon.run("ip", name).stdout == "100.64.0.2\nfd7a:115c:a1e0::2\n", name
    assert daemon.run("ip", "-6", "box").stdout == "fd7a:115c:a1e0::2\n"
    assert daemon.run("ip", "-1", "box").stdout == "100.64.0.2\n"
    assert daemon.run("ip", "-6").stderr == "no Tailscale IPv6 address\n"
    assert daemon.run("ip", "-4", "-6").exit_code == 2
    assert daemon.run("ip", "--assert=127.0.0.1").exit_code == 0
    assert daemon.run("ip", "--assert=127.0.0.9").exit_code == 1
    assert daemon.run("ip", "nobody").stderr == "no peer found: nobody\n"
    daemon.backend.about = Status(backend_state="NeedsLogin")
    assert daemon.run("ip").stderr == "no current Tailscale IPs; state: NeedsLogin\n"


def test_version(daemon: Daemon) -> None:
    """Without asking the daemon, unless wanted."""
    assert daemon.run("version").stdout == f"{VERSION}\n"
    assert daemon.run("version", "--daemon").stdout == f"Client: {VERSION}\nDaemon: {VERSION}\n"
    assert json.loads(daemon.run("version", "--json").stdout)["short"] == VERSION
    about = DatapathStatus(name="native", version="1.2", aead="ring")
    daemon.backend.about = msgspec.structs.replace(daemon.backend.about, datapath=about)
    told = daemon.run("version", "--daemon").stdout
    assert told == f"Client: {VERSION}\nDaemon: {VERSION} (native datapath 1.2, ring)\n"
    assert json.loads(daemon.run("version", "--daemon", "--json").stdout)["daemonDatapath"]
    assert CliRunner().invoke(cli, ["--version"]).stdout == f"{VERSION}\n"


def test_get(daemon: Daemon) -> None:
    """A value, a table, JSON, or flags for ``set``."""
    daemon.backend.current = Prefs(hostname="box", advertise_routes=("192.0.2.0/24", "::1/128"))
    assert daemon.run("get", "hostname").stdout == "box\n"
    assert "accept-dns                  true\n" in daemon.run("get").stdout
    assert json.loads(daemon.run("get", "--json").stdout)["accept-routes"] is False
    flags = daemon.run("get", "--set-flags").stdout
    assert "--hostname=box --advertise-routes=192.0.2.0/24,::1/128" in flags
    assert "login-server" not in flags
    assert "did you mean hostname?" in daemon.run("get", "hostnam").stderr


# --- ping


def test_ping_ends_with_a_direct_pong(daemon: Daemon) -> None:
    """After relayed ones."""
    daemon.backend.pings = [RELAYED, DIRECT, DIRECT]
    result = daemon.run("ping", "box", "--size=100")
    assert result.exit_code == 0
    assert result.stdout == (
        "pong from box (100.64.0.2) via DERP(nyc) in 12ms\n"
        "pong from box (100.64.0.2) via 192.0.2.1:4 in 12ms\n"
    )
    assert ("ping", "100.64.0.2", "disco", 100) in daemon.backend.calls


def test_ping_says_what_did_not_work(daemon: Daemon) -> None:
    """Relayed only, nothing at all, or the daemon's own reason."""
    daemon.backend.pings = [RELAYED, RELAYED]
    assert daemon.run("ping", "-c", "2", "box").stderr == "direct connection not established\n"
    daemon.backend.pings = [RELAYED, RELAYED]
    assert daemon.run("ping", "-c=2", "--until-direct=false", "box").exit_code == 0
    daemon.backend.pings = [PingResult(err="timeout waiting for a pong")]
    result = daemon.run("ping", "-c", "1", "box")
    assert (result.stdout, result.stderr) == ('ping "100.64.0.2" timed out\n', "no reply\n")
    assert daemon.run("ping", "box").stderr == "no answer\n"


@pytest.mark.parametrize(("flag", "kind"), [("--tsmp", "TSMP"), ("--icmp", "ICMP")])
def test_one_answer_through_the_tunnel_is_enough(daemon: Daemon, flag: str, kind: str) -> None:
    """With the port of the peer's API if it told that; silence is no reply."""
    about = PingResult(node_name="box", node_ip="100.64.0.2", latency_seconds=0.012)
    daemon.backend.pings = [PingResult(err="timeout waiting for a pong"), about]
    result = daemon.run("ping", flag, "box")
    assert result.stdout.splitlines()[1] == f"pong from box (100.64.0.2) via {kind} in 12ms"
    assert ("ping", "100.64.0.2", kind, 0) in daemon.backend.calls
    daemon.backend.pings = [replace(about, peer_api_port=4711)]
    said = daemon.run("ping", flag, "box").stdout
    assert said == f"pong from box (100.64.0.2, 4711) via {kind} in 12ms\n"
    daemon.backend.pings = [PingResult(err="timeout waiting for a pong")]
    assert daemon.run("ping", flag, "-c=1", "box").stderr == "no reply\n"


def test_ping_of_the_peer_api(daemon: Daemon) -> None:
    """Where it is, or why there is none."""
    daemon.backend.pings = [
        PingResult(node_name="box", node_ip="100.64.0.2", peer_api_url="http://100.64.0.2:4711")
    ]
    result = daemon.run("ping", "--peerapi", "box")
    assert result.stdout == "hit peerapi of 100.64.0.2 (box) at http://100.64.0.2:4711 in 0µs\n"
    daemon.backend.pings = [PingResult(err="no PeerAPI base found for peer 2 (100.64.0.2)")]
    assert "no PeerAPI base" in daemon.run("ping", "--peerapi", "box").stderr


def test_kinds_of_pings_exclude_each_other(daemon: Daemon) -> None:
    """And only disco has sizes."""
    result = daemon.run("ping", "--tsmp", "--icmp", "box")
    assert result.stderr == "choose one of --tsmp, --icmp and --peerapi\n"
    result = daemon.run("ping", "--tsmp", "--size=100", "box")
    assert result.stderr == "--size does not go with --tsmp\n"
    assert daemon.backend.calls == []


def test_ping_to_self_is_no_failure(daemon: Daemon) -> None:
    """It says so."""
    result = daemon.run("ping", "me")
    assert (result.exit_code, result.stdout) == (0, "127.0.0.1 is local Tailscale IP\n")


# --- writing


def test_down_and_down_again(daemon: Daemon) -> None:
    """Both succeed; the second one says that nothing was done."""
    assert (daemon.run("down").exit_code, edits(daemon)) == (0, [({"WantRunning": False},)])
    daemon.backend.about = Status(backend_state="Stopped")
    again = daemon.run("down")
    assert (again.exit_code, again.stderr) == (0, "Tailscale was already stopped.\n")


def test_set_changes_what_is_mentioned(daemon: Daemon) -> None:
    """And prints nothing; without flags it shows help."""
    args = ("--accept-routes", "--advertise-routes=192.0.2.0/24, ::1/128", "--no-accept-dns")
    result = daemon.run("set", *args)
    assert (result.exit_code, result.output) == (0, "")
    routes = ["192.0.2.0/24", "::1/128"]
    accepts = {"RouteAll": True, "AcceptRoutes": []}
    assert edits(daemon) == [({**accepts, "CorpDNS": False, "AdvertiseRoutes": routes},)]
    assert daemon.run("set").stdout.startswith("Usage:")
    refused = daemon.run("set", "--hostname=a_b")
    assert (refused.exit_code, "bad hostname 'a_b'" in refused.stderr) == (1, True)
    assert daemon.run("set", "--login-server=x").exit_code == 2


def test_logout(daemon: Daemon) -> None:
    """Silent."""
    assert (daemon.run("logout").exit_code, daemon.backend.calls) == (0, [("logout",)])


def test_up_while_running_only_edits(daemon: Daemon) -> None:
    """Silently."""
    result = daemon.run("up", "--login-server=https://c.example", "--accept-routes")
    assert (result.exit_code, result.output) == (0, "")
    assert daemon.backend.current.route_all
    assert daemon.backend.current.want_running


def log_out(daemon: Daemon, *events: Callable[[], None]) -> None:
    """Before the first login; ``events`` follow a start."""
    daemon.backend.about = Status(backend_state="NeedsLogin", self_=PeerStatus())
    daemon.backend.current = Prefs()

    def happen() -> None:
        for event in events:
            event()

    daemon.backend.on_start = happen


def test_up_with_a_key_waits_until_running(daemon: Daemon) -> None:
    """Silent when no one had to do anything."""
    log_out(daemon, lambda: daemon.state("Starting"), lambda: daemon.state("Running"))
    result = daemon.run("up", "--auth-key=k", "--login-server=https://c.example", "--hostname=box")
    assert (result.exit_code, result.output) == (0, "")
    assert ("start", "k") in daemon.backend.calls
    assert daemon.backend.current.hostname == "box"
    assert daemon.backend.current.want_running


def test_up_takes_the_key_from_the_environment(daemon: Daemon) -> None:
    """But only for a login that is needed."""
    log_out(daemon, lambda: daemon.state("Running", have_node_key=True))
    assert daemon.run("up", TS_AUTHKEY="k").exit_code == 0
    assert ("start", "k") in daemon.backend.calls
    daemon.backend.calls.clear()
    assert daemon.run("up", TS_AUTHKEY="k").exit_code == 0
    assert not any(call[0] == "start" for call in daemon.backend.calls)


def test_up_shows_the_url_and_succeeds_loudly(daemon: Daemon) -> None:
    """On stderr; the same URL only once."""
    url = Notify(browse_to_url="https://login.example/a\x1bbc")
    log_out(
        daemon,
        lambda: daemon.backend.bus.publish(url),
        lambda: daemon.backend.bus.publish(url),
        lambda: daemon.state("NeedsMachineAuth"),
    )
    ask = daemon.backend.status

    async def approve_once_seen(peers: bool) -> Status:
        answer = await ask(peers)
        if answer.backend_state == "NeedsMachineAuth":
            asyncio.get_running_loop().call_soon(daemon.state, "Running")
        return answer

    daemon.backend.status = approve_once_seen  # type: ignore[method-assign]
    result = daemon.run("up", "--login-server=https://c.example")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "\nTo authenticate, visit:\n\n\thttps://login.example/abc\n\n"
        "\nTo approve your machine, visit (as admin):\n\n\thttps://c.example/admin\n\n"
        "Success.\n"
    )
    assert ("login-interactive",) in daemon.backend.calls


def open_soon(daemon: Daemon, url: str) -> None:
    """Before the first login; whoever asks for a state finds the login finished a moment later."""
    log_out(
        daemon,
        lambda: daemon.backend.bus.publish(Notify(browse_to_url=url)),
        lambda: daemon.state("Starting"),
    )
    ask = FakeBackend.status

    async def status(peers: bool) -> Status:
        answer = await ask(daemon.backend, peers)
        if answer.backend_state == "Starting":
            asyncio.get_running_loop().call_soon(daemon.state, "Running")
        return answer

    daemon.backend.status = status  # type: ignore[method-assign]


def test_up_draws_a_qr_code(daemon: Daemon) -> None:
    """Below the URL, as text; in JSON it is an image."""
    url = "https://login.example/abc"
    open_soon(daemon, url)
    result = daemon.run("up", "--qr", "--qr-format=ascii")
    first, code = result.stderr.split(f"{url}\n\n")
    assert first == "\nTo authenticate, visit:\n\n\t"
    *lines, end = [line for line in code.splitlines() if line]
    assert end == "Success."
    assert set("".join(lines)) == {"#", " "}
    assert {len(line) for line in lines} == {2 * len(lines)}  # square
    open_soon(daemon, url)
    result = daemon.run("up", "--qr", "--json")
    first, _, _ = result.stdout.partition("}")
    assert json.loads(first + "}")["QR"].startswith("data:image/png;base64,")
    assert daemon.run("up", "--qr", "--qr-format=huge").exit_code == 2


def test_login_is_as_up_and_begins_an_account_if_there_is_one(daemon: Daemon) -> None:
    """What was set before the first login stays; another account begins with defaults."""
    log_out(daemon, lambda: daemon.state("Running", have_node_key=True))
    daemon.backend.current = Prefs(route_all=True)
    result = daemon.run("login", "--auth-key=k", "--login-server=https://c.example")
    assert (result.exit_code, result.output) == (0, "")
    assert ("start", "k") in daemon.backend.calls
    assert daemon.backend.current.route_all
    assert ("new-profile",) not in daemon.backend.calls
    daemon.backend.accounts = [LoginProfile(id="3f2a", name="home")]
    taken = daemon.run("login", "--auth-key=k", "--nickname=home")
    assert taken.stderr == "the nickname 'home' is in use; see: tnet switch --list\n"
    assert ("new-profile",) not in daemon.backend.calls
    result = daemon.run("login", "--auth-key=k", "--nickname=work")
    assert (result.exit_code, result.output) == (0, "")
    assert daemon.backend.calls.index(("new-profile",)) > daemon.backend.calls.index(("start", "k"))
    assert daemon.backend.current.profile_name == "work"
    assert not daemon.backend.current.route_all


def two_accounts(daemon: Daemon) -> None:
    """One with a nickname, in use, and one without."""
    lab = NetworkProfile(domain_name="lab.ts.net", display_name="The lab")
    alice, bob = (UserProfile(id=UserID(n), login_name=f"{n}@example.com") for n in (1, 2))
    daemon.backend.accounts = [
        LoginProfile(id="3f2a", name="work", user_profile=alice, node_id="a", network_profile=lab),
        LoginProfile(id="00ff", name="2@example.com", user_profile=bob, node_id="b"),
    ]
    daemon.backend.chosen = "3f2a"
    daemon.state("Running", have_node_key=True)


def test_the_list_of_accounts(daemon: Daemon) -> None:
    """A table for people, JSON for programs."""
    two_accounts(daemon)
    assert daemon.run("switch", "--list").output.splitlines() == [
        "ID    Tailnet  Account",
        "3f2a  The lab  work*",
        "00ff  -        2@example.com",
    ]
    assert json.loads(daemon.run("switch", "--list", "--json").output)[0] == {
        "id": "3f2a",
        "nickname": "work",
        "tailnet": "The lab",
        "account": "1@example.com",
        "selected": True,
    }


@pytest.mark.parametrize("name", ["3f2a", "lab.ts.net", "work", "1@example.com", "The lab"])
def test_an_account_has_many_names(daemon: Daemon, name: str) -> None:
    """Any of them chooses it; the one in use stays."""
    two_accounts(daemon)
    assert daemon.run("switch", name).output == "Already on account 'work'.\n"
    daemon.backend.chosen = "00ff"
    result = daemon.run("switch", name)
    assert (result.exit_code, result.output) == (0, "Switching to account 'work'\nSuccess.\n")
    assert daemon.backend.chosen == "3f2a"


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        ("NeedsLogin", 0, "To log in, run:\n  tnet up\n"),
        ("Stopped", 1, "that account is disconnected; connect with: tnet up\n"),
        ("NeedsMachineAuth", 1, "this machine is not approved yet in that tailnet\n"),
    ],
)
def test_switching_says_how_it_went(daemon: Daemon, state: str, code: int, said: str) -> None:
    """As soon as that is settled."""
    two_accounts(daemon)
    daemon.state(state)
    result = daemon.run("switch", "00ff")
    assert result.exit_code == code
    assert (result.output + result.stderr).endswith(said)


def test_removing_an_account(daemon: Daemon) -> None:
    """By any of its names."""
    two_accounts(daemon)
    assert daemon.run("switch", "remove", "2@example.com").output == ""
    assert ("delete", "00ff") in daemon.backend.calls
    result = daemon.run("switch", "remove", "nobody")
    assert (result.exit_code, result.stderr) == (
        1,
        "no account is called 'nobody'; see: tnet switch --list\n",
    )
    for words in ((), ("a", "b"), ("remove", "a", "b"), ("--list", "a")):
        assert daemon.run("switch", *words).exit_code == 2


def test_a_new_key_while_running_is_success(daemon: Daemon) -> None:
    """``--force-reauth`` changes no state: the end of the login is what counts."""
    daemon.backend.current = Prefs()
    daemon.state("Running", have_node_key=True, self_=PeerStatus(public_key="nodekey:a"))

    def renewed() -> None:
        self_ = PeerStatus(public_key="nodekey:b")
        daemon.backend.about = msgspec.structs.replace(daemon.backend.about, self_=self_)
        daemon.backend.bus.publish(Notify(login_finished={}))

    daemon.backend.on_start = renewed
    result = daemon.run("up", "--auth-key=k", "--force-reauth")
    assert (result.exit_code, result.output) == (0, "")
    assert ("login-interactive",) in daemon.backend.calls


def test_up_reports_a_refused_login(daemon: Daemon) -> None:
    """The server's words, cleaned."""
    log_out(daemon, lambda: daemon.backend.bus.publish(Notify(err_message="invalid key: \x1bno")))
    result = daemon.run("up", "--auth-key=k")
    assert result.exit_code == 1
    assert result.stderr == (
        "invalid key: no; check the key, or make a new one on https://controlplane.tailscale.com\n"
    )


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ("AuthKey not found", True),
        ("invalid key: unable to validate API key", True),
        ("pre-auth key expired", True),
        ("preauth key expired", True),
        ("the control server says that a new node key has expired", False),
        ("register answered 403: keyboard not found", False),
        ("the certificate of https://x is not trusted: key usage", False),
    ],
)
def test_advice_about_a_key_is_for_errors_about_auth_keys(
    daemon: Daemon, words: str, about: bool
) -> None:
    """A node's key, a certificate's and a keyboard are others."""
    log_out(daemon, lambda: daemon.backend.bus.publish(Notify(err_message=words)))
    said = daemon.run("up", "--auth-key=k").stderr
    assert said.startswith(words)
    assert ("check the key" in said) is about


def test_the_failure_of_an_earlier_login_is_not_ours(daemon: Daemon) -> None:
    """The daemon was still trying a wrong key when ours came."""
    open_soon(daemon, "https://login.example/a")
    start = daemon.backend.start

    async def fail_once_more(update: object, auth_key: str) -> None:
        daemon.backend.bus.publish(Notify(err_message="invalid auth key"))
        await start(update, auth_key)  # type: ignore[arg-type]

    daemon.backend.start = fail_once_more  # type: ignore[method-assign, assignment]
    assert daemon.run("up", "--auth-key=k").exit_code == 0


def test_up_gives_up(daemon: Daemon) -> None:
    """After ``--timeout``, with a hint."""
    log_out(daemon)
    result = daemon.run("up", "--auth-key=k", "--timeout=50ms")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "timeout waiting for Tailscale service to enter a Running state"
    )


def test_up_in_json(daemon: Daemon) -> None:
    """One object a step, indented by tabs; errors too."""
    log_out(daemon, lambda: daemon.state("Running"))
    result = daemon.run("up", "--auth-key=k", "--json")
    assert result.stdout == '{\n\t"BackendState": "Running"\n}\n'
    log_out(daemon)
    result = daemon.run("up", "--auth-key=k", "--json", "--timeout=50ms")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["Error"].startswith("timeout")


def test_up_refuses_bad_settings_before_anything_happens(daemon: Daemon) -> None:
    """Nothing is started."""
    log_out(daemon)
    result = daemon.run("up", "--auth-key=k", "--advertise-routes=192.0.2.1/24")
    assert (result.exit_code, "non-address bits" in result.stderr) == (1, True)
    assert edits(daemon) == []


def test_up_from_stopped_without_flags(daemon: Daemon) -> None:
    """Connects and waits."""
    daemon.backend.about = msgspec.structs.replace(RUNNING, backend_state="Stopped")

    edit = daemon.backend.edit_prefs

    async def edit_and_run(masked: object) -> Prefs:
        prefs = await edit(masked)  # type: ignore[arg-type]
        daemon.state("Running")
        return prefs

    daemon.backend.edit_prefs = edit_and_run  # type: ignore[method-assign]
    assert daemon.run("up").exit_code == 0
    assert edits(daemon) == [({"WantRunning": True},)]


def test_wait(daemon: Daemon, tmp_path: Path) -> None:
    """0 when the address is on an interface, 1 when the patience ends."""
    assert daemon.run("wait", "--timeout=5s").exit_code == 0
    daemon.backend.about = msgspec.structs.replace(RUNNING, tailscale_ips=("192.0.2.77",))
    assert daemon.run("wait", "--timeout=20ms").exit_code == 1
    result = CliRunner().invoke(cli, ["--socket", f"{tmp_path}/x", "wait", "--timeout=20ms"])
    assert result.exit_code == 1


# --- the program


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """And it exits with 0."""
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: cli {name}")


def test_other_spellings_of_help_and_version() -> None:
    """As in Go."""
    assert CliRunner().invoke(cli, ["help"]).stdout == CliRunner().invoke(cli, ["--help"]).stdout
    assert "Usage: cli up" in CliRunner().invoke(cli, ["help", "up"]).stdout
    unknown = CliRunner().invoke(cli, ["statsu"])
    assert (unknown.exit_code, "did you mean status?" in unknown.stderr) == (2, True)


def test_status_imports_little() -> None:
    """No asyncio, no TLS, no cryptography, no other command: that is what makes it quick."""
    code = (
        "import sys; import tailnet.cli.main as m\n"
        "m.cli.get_command(None, 'status')\n"
        "print(' '.join(sys.modules))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ})
    loaded = set(out.split())
    heavy = {"asyncio", "ssl", "cryptography", "h11", "http.client", "email", "ipaddress"}
    assert not heavy & loaded
    ours = {name for name in loaded if re.match(r"tailnet\.(agent|platform)\.", name)}
    assert ours <= {
        "tailnet.agent._version",
        "tailnet.agent.localapi",
        "tailnet.agent.localapi.schema",
    }
