"""How ``tnet`` says that it does not reach a daemon, or may not do a thing."""

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.tnet import Daemon

from tailnet.agent.localapi.schema.basics import VERSION
from tailnet.cli.main import cli


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
