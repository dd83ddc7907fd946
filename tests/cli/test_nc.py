"""``tnet nc`` against a served backend."""

import os
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.fake_backend import FakeBackend
from tests.support.served import served

from tailnet.agent.addr import AddrPort
from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.client import LocalClient
from tailnet.cli.main import cli
from tailnet.client import Refused


class Greeter:
    """A connection that says hello and ends when the other side does."""

    def __init__(self, host: str, port: int) -> None:
        self.local = AddrPort.parse("100.64.0.1:4000")

    def join(self, fd: int, early: bytes) -> None:
        """In a thread."""
        threading.Thread(target=self._run, args=(socket.socket(fileno=fd),)).start()

    def abort(self) -> None:
        """Never."""

    @staticmethod
    def _run(sock: socket.socket) -> None:
        sock.setblocking(True)
        with sock:
            sock.sendall(b"hello\n")
            while sock.recv(1000):
                pass
            sock.sendall(b"bye\n")


def backend() -> FakeBackend:
    """Running, with a greeter everywhere."""
    return FakeBackend(about=Status(backend_state="Running"), on_dial=Greeter)


def test_what_comes_is_printed_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Our end of input is passed on; what still comes is not lost."""
    path = tmp_path / "s"
    with Path(os.devnull).open() as nothing, served(backend(), path):
        monkeypatch.setattr("sys.stdin", nothing)
        cli.main(["--socket", str(path), "nc", "h2", "22"], standalone_mode=False)
    assert capfd.readouterr().out == "hello\nbye\n"


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    """With the daemon's reason."""
    path = tmp_path / "s"
    fake = FakeBackend(about=Status(backend_state="Running"))
    with served(fake, path), pytest.raises(Refused, match=r"^h2:22: connection refused$"):
        LocalClient(str(path)).dial("h2", 22)


def test_without_a_connection_to_the_tailnet_it_says_so(tmp_path: Path) -> None:
    """And does not dial."""
    path = tmp_path / "s"
    fake = FakeBackend()
    with served(fake, path):
        result = CliRunner().invoke(cli, ["--socket", str(path), "nc", "h2", "22"])
    assert result.exit_code == 1
    assert "not connected; state: Stopped; connect with: tnet up" in result.output
    assert not any(call[0] == "dial" for call in fake.calls)


@pytest.mark.parametrize("host", ["", "h 2", "h2\r\nX: y", "h\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_host_that_is_none_is_refused(host: str, tmp_path: Path) -> None:
    """Before anything is sent."""
    result = CliRunner().invoke(cli, ["--socket", str(tmp_path / "s"), "nc", "--", host, "22"])
    assert result.exit_code == 1
    assert result.output.startswith("not a host: ")
