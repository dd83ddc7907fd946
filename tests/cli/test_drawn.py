"""``tnet top`` and ``tnet status --watch`` as they stand on a terminal."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import BOX, RUNNING, Daemon

from tailnet.agent.localapi.schema.paths import PathDetails
from tailnet.agent.localapi.schema.status import PeerStatus

pyte = pytest.importorskip("pyte", reason="install again: pip install -e '.[test]'")

PATIENCE = 15.0
MAIN = "from tailnet.cli.main import main; main()"
EVIL = "box\x1b[2J\x07"


class Terminal:
    """A program on a terminal; what stands there, and nothing that has scrolled away."""

    def __init__(self, daemon: Daemon, *args: str, columns: int, lines: int) -> None:
        self._screen = pyte.HistoryScreen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "CI")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "--socket", str(daemon.path), *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment | {"TERM": "xterm"},
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 4096)
            except OSError:  # the program has closed its end
                data = b""
            if not data:
                return
            with self._changed:
                self._stream.feed(data)
                self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """As a person sees them."""
        return [line.rstrip() for line in self._screen.display]

    def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """The screen, as soon as that holds."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.lines), PATIENCE), self.lines
            return self.lines

    def shows_cursor(self) -> bool:
        """It is there."""
        return not self._screen.cursor.hidden

    @property
    def scrolled(self) -> int:
        """Lines that have left the screen."""
        return len(self._screen.history.top)

    def end(self, by: int | None = None) -> int:
        """Exit status, of itself or by a signal."""
        if by is not None:
            os.kill(self.process.pid, by)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self) -> None:
        """Whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        os.close(self._ours)


@contextmanager
def terminal(daemon: Daemon, *args: str, columns: int = 100, lines: int = 20) -> Iterator[Terminal]:
    """Runs ``tnet`` with these words."""
    one = Terminal(daemon, *args, columns=columns, lines=lines)
    try:
        yield one
    finally:
        one.close()


def peer(number: int, **changes: object) -> PeerStatus:
    """Online, with some traffic."""
    plain = msgspec.structs.replace(
        BOX,
        id=f"n{number}",
        public_key=f"nodekey:{number}",
        host_name=f"box{number}",
        dns_name=f"box{number}.x.ts.net.",
        tailscale_ips=(f"100.64.0.{number}",),
        rx_bytes=10_000,
        tx_bytes=2_000,
    )
    return msgspec.structs.replace(plain, **changes)


def tell(daemon: Daemon, *peers: PeerStatus, health: tuple[str, ...] = ()) -> None:
    """What the daemon says from now on."""
    daemon.backend.about = msgspec.structs.replace(
        RUNNING, peer={p.public_key: p for p in peers}, health=health
    )


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Running."""
    backend = FakeBackend(
        about=RUNNING, about_path=PathDetails(id="n2", kind="direct", latency_seconds=0.012)
    )
    with served(backend, tmp_path / "s"):
        yield Daemon(backend, tmp_path / "s")


@pytest.mark.parametrize("args", [("top",), ("status", "--watch")])
def test_it_is_drawn_in_place_and_ctrl_c_gives_the_terminal_back(
    daemon: Daemon, args: tuple[str, ...]
) -> None:
    """What changes changes where it stood, nothing scrolls, and the cursor comes back."""
    tell(daemon, peer(2, active=True, cur_addr="203.0.113.7:41641"), peer(3))
    with terminal(daemon, *args) as shown:
        lines = shown.until(lambda lines: any("box3" in line for line in lines))
        assert lines[0].startswith("me  Running  in 0 B/s")
        assert lines[1].split()[:3] == ["Peer", "IP", "Path"]
        row = next(line for line in lines if line.startswith("box2"))
        assert row.split()[:5] == ["box2", "100.64.0.2", "direct", "203.0.113.7:41641", "12ms"]
        assert not shown.shows_cursor()
        tell(daemon, peer(2, active=True, relay="fra"), health=("something is wrong",))
        lines = shown.until(lambda lines: any("wrong" in line for line in lines))
        assert [line.split()[:4] for line in lines if line.startswith("box")] == [
            ["box2", "100.64.0.2", "relay", "fra"]
        ]
        assert lines[lines.index("# something is wrong") :].count("") == len(lines) - 4
        assert shown.scrolled == 0
        assert shown.end(signal.SIGINT) == 130
        assert shown.shows_cursor()
        assert not any("Traceback" in line for line in shown.lines)


@pytest.mark.parametrize("columns", [20, 40, 100])
def test_a_small_terminal_shows_what_fits(daemon: Daemon, columns: int) -> None:
    """A line a peer, whatever its name would do to a terminal, and how many more there are."""
    evil = peer(2, host_name=EVIL * 9, dns_name=f"{EVIL * 9}.x.")
    wrong = "the relay cannot be reached " * 2
    tell(daemon, evil, *map(peer, range(3, 40)), health=(wrong.strip(),))
    with terminal(daemon, "status", "--watch", columns=columns, lines=10) as shown:
        lines = shown.until(lambda lines: lines[-1].endswith("reached"))
        assert lines[0].startswith("me")
        boxes = [line for line in lines if line.startswith("box")]
        assert lines[len(boxes) + 2] == f"… and {38 - len(boxes)} more"
        below = lines[len(boxes) + 3 :]
        assert below[0].startswith("# the relay")
        assert shown.scrolled == 0
        assert shown.end(signal.SIGINT) == 130


def test_a_daemon_that_ends_is_said_in_one_line(tmp_path: Path) -> None:
    """Not drawn over, with the cursor back."""
    daemon = Daemon(FakeBackend(about=RUNNING), tmp_path / "s")
    tell(daemon, peer(2))
    with ExitStack() as ending:
        with served(daemon.backend, daemon.path):
            shown = ending.enter_context(terminal(daemon, "status", "--watch"))
            shown.until(lambda lines: any("box2" in line for line in lines))
        assert shown.end() == 1
        assert "tailnetd is not running" in "".join(shown.lines)
        assert "Traceback" not in "".join(shown.lines)
        assert shown.shows_cursor()


def test_watching_takes_no_other_flag(daemon: Daemon) -> None:
    """They would be without effect."""
    for flag in ("--json", "--active", "--header", "--self=false", "--peers=false"):
        result = daemon.run("status", "--watch", flag)
        assert result.exit_code == 2
        assert "--watch takes no other flag" in result.stderr
