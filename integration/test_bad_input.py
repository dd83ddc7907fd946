"""What goes wrong is said in one clear line, with the right exit code, and nothing is lost.

::

    h1 ── bridge: control, DERP, STUN ── h2        h1 is given bad input, h2 is not
"""

import re
import subprocess
from collections.abc import Iterator

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY, EXPIRED_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]

HIDE_TUN = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh")
NO_CAPABILITY = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts, nothing started."""
    return make_lab(flat("h1", "h2"))


@pytest.fixture
def host(lab: Lab) -> Host:
    """h1, where no daemon runs."""
    return lab.hosts["h1"]


@pytest.fixture
def logged_out(host: Host) -> Iterator[Host]:
    """h1 with a running daemon that never logged in."""
    host.start()
    yield host
    assert host.running.returncode is None, "the daemon did not survive bad input"
    assert "Traceback" not in host.log.read_text()
    host.stop()
    for path in host.statedir.iterdir():
        path.unlink()


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line a program ended with, log lines (which start with a date) aside."""
    assert done.returncode == code, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if not re.match(r"\d{4}-\d\d-\d\d ", line)]
    assert len(said) == 1, done.stderr
    return said[0]


def daemon(
    host: Host, *flags: str, under: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the daemon to its end."""
    return host.exec(*under, *host.daemon_command(*flags), check=False, timeout=15)


# --- the daemon -------------------------------------------------------------------


def test_no_tun_device(host: Host) -> None:
    """Says what is missing and how to get it."""
    said = refused(daemon(host, under=HIDE_TUN), 1)
    assert said.startswith("tailnetd: there is no /dev/net/tun; ")
    assert not host.socket.exists()


def test_no_privilege(host: Host) -> None:
    """Says that it is not allowed, and how it would be."""
    said = refused(daemon(host, under=NO_CAPABILITY), 1)
    assert said.startswith("tailnetd: not allowed to open TUN device tailnet0; ")
    assert not host.socket.exists()


def test_tun_device_in_use(lab: Lab, host: Host) -> None:
    """A second daemon on the same machine, with everything else of its own."""
    host.start()
    other = [f"--socket={lab.directory}/other.sock", f"--statedir={lab.directory}/other"]
    said = refused(daemon(host, *other), 1)
    assert said == (
        "tailnetd: TUN device tailnet0 is in use by another process; stop it or give --tun=NAME"
    )
    assert host.stop() == 0


def test_socket_in_use(host: Host) -> None:
    """The running daemon is named by its socket, and is not disturbed."""
    host.start()
    said = refused(daemon(host), 1)
    assert said == (
        f"tailnetd: another tailnetd is running (socket {host.socket}); "
        "stop it, or give this one another --socket, --statedir and --tun"
    )
    said = refused(daemon(host, "--cleanup"), 1)
    assert said == (
        f"tailnetd: a daemon is running (socket {host.socket}); "
        "stop it first, it cleans up by itself"
    )
    assert host.status()["BackendState"] == "NeedsLogin"
    assert host.stop() == 0


def test_damaged_state_file(host: Host) -> None:
    """It is left untouched."""
    state = host.statedir / "tailnetd.state"
    state.parent.mkdir(exist_ok=True)
    state.write_text('{"damaged": ')
    said = refused(daemon(host), 1)
    assert said == (
        f"tailnetd: the state file {state} is damaged (it is not a JSON object of base64 values); "
        "it was left untouched: restore it from a backup, or move it away and log in again"
    )
    assert state.read_text() == '{"damaged": '
    state.unlink()


def test_unknown_flag_of_the_daemon(host: Host) -> None:
    """A usage error."""
    assert "--nope" in refused(daemon(host, "--nope"), 2)


def test_a_proxy_address_of_somebody_else(host: Host) -> None:
    """It cannot be listened on; nothing else is left running."""
    said = refused(daemon(host, "--socks5-server=192.0.2.1:1055"), 1)
    assert said == (
        "tailnetd: cannot listen for SOCKS5 on 192.0.2.1:1055: Cannot assign requested address; "
        "choose another address"
    )


# --- the client -------------------------------------------------------------------


def up(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``tnet up`` that gives up after five seconds."""
    return host.tnet("up", "--timeout=5s", *arguments, check=False)


def test_no_daemon(host: Host) -> None:
    """Says how to start one."""
    said = refused(host.tnet("status", check=False), 1)
    assert said == (
        f"tailnetd is not running (no socket at {host.socket}); "
        f"start it with: sudo tailnetd --socket={host.socket}"
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [("tskey-auth-wrong", "invalid auth key"), (EXPIRED_KEY, "authkey expired")],
)
def test_wrong_auth_key(logged_out: Host, key: str, words: str) -> None:
    """What the server says is shown, and that is all; a good key works right after."""
    login = f"--login-server={logged_out.login_server}"
    assert refused(up(logged_out, login, f"--auth-key={key}"), 1) == (
        f"{words}; check the key, or make a new one on {logged_out.login_server}"
    )
    assert logged_out.tnet("status", check=False).stdout == (
        f"Logged out.\n# Health check:\n#     - {words}\n"
    )
    logged_out.up(AUTH_KEY)
    assert logged_out.status()["BackendState"] == "Running"
    assert logged_out.log.read_text().count(f"login: {words} (that auth key is not") == 1


def test_unreachable_server(logged_out: Host) -> None:
    """Nobody there, nobody listening, no such name: which server, and why."""
    for server, why in (
        ("http://10.99.0.77:8080", "No route to host"),
        ("http://10.99.0.1:1", "Connection refused"),
        ("http://nowhere.invalid", "Temporary failure in name resolution"),
    ):
        said = refused(up(logged_out, f"--login-server={server}", "--auth-key=k"), 1)
        assert said.startswith(f"cannot reach {server}: {why}")


def test_a_server_that_is_not_a_control_server(logged_out: Host) -> None:
    """The relay of the lab speaks HTTP, but is none."""
    server = "http://10.99.0.1:3340"
    said = refused(up(logged_out, f"--login-server={server}", "--auth-key=k"), 1)
    assert said.startswith(f"{server} is not a control server: ")


def test_login_server_that_is_no_url(logged_out: Host) -> None:
    """Says what one looks like."""
    said = refused(up(logged_out, "--login-server=banana", "--auth-key=k"), 1)
    assert said == "bad login server 'banana': it has the form https://HOST[:PORT]"


@pytest.mark.parametrize(
    ("routes", "text"),
    [
        ("10.0.0.1/8", "10.0.0.1/8 has non-address bits set; expected 10.0.0.0/8"),
        ("banana", "'banana' is not a valid CIDR prefix, such as 192.0.2.0/24"),
    ],
)
def test_invalid_cidr(logged_out: Host, routes: str, text: str) -> None:
    """Nothing is changed."""
    assert refused(up(logged_out, f"--advertise-routes={routes}"), 1) == text
    assert logged_out.status()["BackendState"] == "NeedsLogin"


def test_unknown_flag_and_command(host: Host) -> None:
    """Usage errors, named."""
    assert refused(host.tnet("up", "--nope", check=False), 2) == (
        "unknown flag: --nope (see tnet up --help)"
    )
    assert refused(host.tnet("nope", check=False), 2) == "unknown command: nope (see tnet --help)"


def test_state_survives_bad_input(host: Host) -> None:
    """A node that is up stays what it is, whatever ``tnet up`` is given."""
    host.start()
    host.up(AUTH_KEY)
    before = host.status()["Self"]
    assert refused(up(host, "--login-server=http://10.99.0.77"), 1) == (
        "can't change --login-server without --force-reauth"
    )
    refused(up(host, "--advertise-routes=banana"), 1)
    after = host.status()
    assert after["BackendState"] == "Running"
    assert after["Self"]["PublicKey"] == before["PublicKey"]
    assert host.stop() == 0
