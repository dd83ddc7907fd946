"""``tnet up`` and ``tnet login``, from the first request to the last line."""

import asyncio
import json
from collections.abc import Callable

import msgspec
import pytest
from tests.support.fake_backend import FakeBackend
from tests.support.tnet import RUNNING, Daemon, edits

from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.localapi.schema.bus import Notify
from tailnet.agent.localapi.schema.status import PeerStatus, Status


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
