"""How ``tnet`` says that it does not reach a daemon, or may not do a thing."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import Daemon

from tailnet.agent.localapi.schema.basics import VERSION
from tailnet.cli.client import skew
from tailnet.cli.main import cli


def test_without_a_daemon_there_is_one_line(tmp_path: Path) -> None:
    """It says how to start it."""
    for name in ("status", "up", "down", "ip"):
        result = CliRunner().invoke(cli, ["--socket", f"{tmp_path}/s", name])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            f"tailnetd is not running (no socket at {tmp_path}/s); "
            f"start it with: sudo tailnetd --socket={tmp_path}/s\n"
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
    monkeypatch.setattr("tailnet.client.trouble.is_root", lambda: False)
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
    assert result.stderr == (
        f"Warning: tailnetd is {VERSION} and tnet 9.9.9; restart tailnetd to make them one\n"
    )


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


@pytest.mark.parametrize("unread", [True, False], ids=["reset", "closed"])
def test_a_daemon_that_hangs_up_is_not_said_to_talk_nonsense(tmp_path: Path, unread: bool) -> None:
    """As one does that has no descriptor left for the question, or that ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        listener.listen()

        def hang_up() -> None:
            conn, _ = listener.accept()
            with conn:
                conn.recv(1 << 16, socket.MSG_PEEK if unread else 0)  # what is not read resets it

        thread = threading.Thread(target=hang_up)
        thread.start()
        result = CliRunner().invoke(cli, ["--socket", f"{tmp_path}/s", "status"])
        thread.join()
    said = "tailnetd hung up before it answered; its log may say why\n"
    assert (result.exit_code, result.stderr) == (1, said)


# --- as a person meets it: the program itself

LONG = "/" + "x" * 107
TNET = Path(sys.executable).with_name("tnet")


def run_tnet(*args: str, stdout: int | None = None, **env: str) -> tuple[int, str]:
    """Exit code and what it says of trouble."""
    done = subprocess.run(
        [TNET, *args],
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
        check=False,
        text=True,
    )
    return done.returncode, done.stderr


@contextmanager
def nobody(tmp_path: Path) -> Iterator[None]:
    """What is called meanwhile is not root, nor the owner of the folder."""
    assert CliRunner().invoke(cli, ["--socket=/nowhere/s", "status"]).exit_code == 1  # loads all
    for folder in (tmp_path, *tmp_path.parents[:-2]):  # with xdist one more, below /tmp
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_socket_somewhere_else_is_named(tmp_path: Path) -> None:
    """The usual one is there, so that the flag must be wrong."""
    usual = tmp_path / "tailnetd.sock"
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with served(FakeBackend(), usual), nobody(tmp_path):
        result = CliRunner().invoke(cli, ["--socket=/nowhere/s", "status"], env=env)
    said = f"no socket at /nowhere/s; there is one at {usual}, used without --socket\n"
    assert (result.exit_code, result.stderr) == (1, said)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_socket_that_is_for_others_says_who_may(tmp_path: Path) -> None:
    """The advice is one thing to do."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        listener.listen()
        (tmp_path / "s").chmod(0o600)
        with nobody(tmp_path):
            result = CliRunner().invoke(cli, [f"--socket={tmp_path}/s", "status"])
    advice = "use sudo, or the account that runs tailnetd"
    assert result.stderr == f"no permission to use the socket {tmp_path}/s; {advice}\n"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/etc/passwd", "/etc/passwd is not a socket; tailnetd's is named by its flag --socket\n"),
        ("/tmp", "/tmp is not a socket; tailnetd's is named by its flag --socket\n"),
        (
            "/" + "x" * 107,
            "the path of a socket has at most 107 bytes, not as /" + "x" * 107 + "\n",
        ),
    ],
)
def test_what_is_no_socket_is_said(path: str, says: str) -> None:
    """And what would be one."""
    assert run_tnet(f"--socket={path}", "status") == (1, says)


@pytest.mark.parametrize("args", [("--help",), ("version",), ("licenses",)])
def test_output_that_cannot_be_written_is_one_line(args: tuple[str, ...]) -> None:
    """A full disk; a reader who has gone wants no words at all."""
    with Path("/dev/full").open("w") as full:
        assert run_tnet(*args, stdout=full.fileno()) == (
            1,
            "cannot write: No space left on device\n",
        )
    reading, writing = os.pipe()
    os.close(reading)
    assert run_tnet(*args, stdout=writing) == (1, "")
    os.close(writing)


def test_the_end_comes_at_once_and_loses_nothing(tmp_path: Path) -> None:
    """No module is taken apart; output, exit code and a closed stdout are as ever."""
    done = subprocess.run([TNET, "licenses"], capture_output=True, check=True, text=True)
    assert done.stdout.endswith("\n")
    assert len(done.stdout) > 1000
    for words, code in (("version", 0), (f"--socket={tmp_path}/s status", 1), ("nonsense", 2)):
        closed = subprocess.run(["sh", "-c", f"exec {TNET} {words} >&-"], check=False)
        assert closed.returncode == code


@pytest.mark.parametrize(
    ("mine", "theirs", "advice"),
    [("1.10.0", "1.9.0", "restart tailnetd"), ("1.9.0", "1.10.0", "update tnet")],
)
def test_which_version_is_older_decides_the_advice(mine: str, theirs: str, advice: str) -> None:
    """Numbers, not texts."""
    said = skew(mine, theirs)
    assert said == f"tailnetd is {theirs} and tnet {mine}; {advice} to make them one"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """In one line, before anything is asked."""
    code, said = run_tnet(f"--socket={tmp_path}/s", "ip", os.fsdecode(b"\xff"))
    assert (code, said) == (2, "an argument is not text in UTF-8 (see tnet ip --help)\n")
