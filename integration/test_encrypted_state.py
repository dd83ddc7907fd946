"""Nothing of a tailnet can be read from the disk without the key, and the way back is open.

::

    h1 ── bridge: control, DERP, STUN
"""

import os
import shutil
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.process import run
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]

PLAIN = (b"_machinekey", b"lab.ts.net", b"_current-profile", b"nodekey:")


@pytest.fixture(scope="module")
def host(make_lab: MakeLab) -> Host:
    """A host that is logged in, with a state in plain text and two good keys at hand."""
    lab = make_lab(flat("h1"))
    lab.join()
    host = lab.hosts["h1"]
    for name in ("key", "other"):
        (host.directory / name).write_text(f"{name:x>40}\n")
    until("a map", lambda: len(list(host.statedir.glob("*.netmap"))) == 1, 10)
    return host


def content(host: Host) -> bytes:
    """All that is on disk."""
    return b"".join(path.read_bytes() for path in sorted(host.statedir.iterdir()))


def key(host: Host, name: str = "key") -> str:
    """The flag."""
    return f"--state-key={host.directory / name}"


def refused(host: Host, *flags: str) -> str:
    """What a daemon says that does not start; it touches nothing."""
    before = content(host)
    done = host.exec(*host.daemon_command(*flags), check=False)
    assert done.returncode == 1
    assert content(host) == before
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("tailnetd: ")]
    return line


def test_the_first_start_with_a_key_encrypts(host: Host) -> None:
    """Same node, same address; what is written from then on is encrypted too."""
    address = host.ipv4
    assert any(word in content(host) for word in PLAIN)
    host.stop()
    host.start(key(host))
    host.wait_running()
    assert host.ipv4 == address
    until("a map", lambda: len(list(host.statedir.glob("*.netmap"))) == 1, 10)
    assert not any(word in content(host) for word in PLAIN)
    assert host.tnet("switch", "--list").stdout.count("lab.ts.net") == 1
    host.stop()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "is encrypted: say where its key is, with --state-key; nothing was touched"),
        (("other",), "is encrypted with another key; nothing was touched"),
        (("nowhere",), "nowhere: No such file or directory"),
    ],
)
def test_without_the_right_key_nothing_is_touched(
    host: Host, flags: tuple[str, ...], said: str
) -> None:
    """One line."""
    assert refused(host, *(key(host, name) for name in flags)).endswith(said)


def credentials(host: Host) -> Path:
    """A directory as the service manager makes it for ``LoadCredentialEncrypted=key``.

    The key goes through systemd's own encryption where that is installed.
    """
    directory = host.directory / "credentials"
    directory.mkdir(mode=0o700, exist_ok=True)
    shown = directory / "key"
    shown.unlink(missing_ok=True)
    if shutil.which("systemd-creds") is None:
        shown.write_bytes((host.directory / "key").read_bytes())
    else:
        sealed = host.directory / "key.cred"
        env = {**os.environ, "SYSTEMD_CREDENTIAL_SECRET": str(host.directory / "host.secret")}
        creds = ("systemd-creds", "--name=key")
        run([*creds, "--with-key=host", "encrypt", host.directory / "key", sealed], env=env)
        assert b"x" * 20 not in sealed.read_bytes()
        run([*creds, "decrypt", sealed, shown], env=env)
    shown.chmod(0o400)
    return directory


def test_a_credential_of_the_service_manager(host: Host) -> None:
    """As ``LoadCredentialEncrypted=`` gives it."""
    daemon = host.spawn(
        "tailnetd",
        *host.daemon_command("--verbose=1"),
        env={
            "CREDENTIALS_DIRECTORY": str(credentials(host)),
            "TAILNETD_STATE_KEY": "credential:key",
        },
    )
    host.daemon = daemon
    host.wait_for_socket(10)
    host.wait_running()
    busy = refused_decryption(host)
    assert "a daemon is running" in busy
    host.stop()


def refused_decryption(host: Host) -> str:
    """``--decrypt-state`` that does not."""
    done = host.exec(*host.daemon_command("--decrypt-state", key(host)), check=False)
    assert done.returncode == 1
    return done.stderr


def test_the_way_back(host: Host) -> None:
    """Plain text again, and the same node."""
    assert "encrypted with another key" in refused(host, "--decrypt-state", key(host, "other"))
    done = host.exec(*host.daemon_command("--decrypt-state", key(host)))
    assert done.stdout.endswith("is plain text now; start tailnetd without --state-key\n")
    assert b"_machinekey" in Path(host.statedir / "tailnetd.state").read_bytes()
    host.start()
    host.wait_running()
    host.tnet("up", f"--login-server={host.login_server}", "--hostname=h1", "--accept-routes")
    assert AUTH_KEY.encode() not in content(host)
