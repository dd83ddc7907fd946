"""One machine of the lab: a namespace, a state directory, ``tailnetd`` and ``tnet``."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from integration.lab.process import LabError, Process, in_namespace, run
from integration.lab.waiting import until

DEVICE = "tailnet0"
PORT = 41641
START_TIMEOUT = 15.0  # seconds until the daemon answers
UP_TIMEOUT = 20.0  # seconds until `tnet up` says it is up
BIN = Path(sys.executable).parent
_INHERITED = ("PATH", "LANG", "LC_ALL", "HOME", "TERM", "COVERAGE_PROCESS_START")


@dataclass(frozen=True, slots=True)
class PingResult:
    """What ``ping`` says at its end.

    Attributes:
        sent: echo requests.
        received: answers.
        average_ms: mean round trip; 0 if nothing came back.
    """

    sent: int
    received: int
    average_ms: float

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return self.sent - self.received


def parse_ping(output: str) -> PingResult:
    """Read the summary of iputils' or busybox's ``ping``.

    Raises:
        LabError: there is none.
    """
    counts = re.search(r"(\d+) packets transmitted, (\d+) (?:packets )?received", output)
    if counts is None:
        msg = f"ping said nothing of use:\n{output}"
        raise LabError(msg)
    times = re.search(r"= [\d.]+/([\d.]+)/", output)
    average = float(times.group(1)) if times else 0.0
    return PingResult(int(counts.group(1)), int(counts.group(2)), average)


class Host:
    """A machine that can run ``tailnetd``.

    Attributes:
        name: as in the topology; also the host name given to ``tnet up``.
        namespace: where its programs run.
        underlay: its IPv4 address on the segment.
        directory: holds ``state/``, ``tailnetd.sock`` and ``tailnetd.log``.
        login_server: URL for ``tnet up``.
        variables: of the environment of its programs, besides the usual ones.
    """

    def __init__(
        self,
        name: str,
        namespace: str,
        underlay: IPv4Address,
        directory: Path,
        login_server: str,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.underlay = underlay
        self.directory = directory
        self.login_server = login_server
        self.statedir = directory / "state"
        self.socket = directory / "tailnetd.sock"
        self.log = directory / "tailnetd.log"
        self.daemon: Process | None = None
        self.variables: dict[str, str] = {}
        self._spawned: list[Process] = []
        directory.mkdir(parents=True, exist_ok=True)

    # --- the daemon ---------------------------------------------------------

    def daemon_command(self, *flags: str) -> list[str]:
        """The command line of its daemon."""
        return [
            str(BIN / "tailnetd"),
            f"--tun={DEVICE}",
            f"--statedir={self.statedir}",
            f"--socket={self.socket}",
            f"--port={PORT}",
            *flags,
        ]

    def environment(self, **more: str) -> dict[str, str]:
        """A small environment with directories of its own."""
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        home = str(self.directory)
        return (
            kept
            | {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_DATA_HOME": home}
            | self.variables
            | more
        )

    def start(self, *flags: str, wait: bool = True, user: int | None = None) -> Process:
        """Start the daemon; by default wait until its socket answers.

        Args:
            flags: more of them; the last of a kind counts.
            wait: until its socket answers.
            user: run it as this user, who gets its directory, without any privilege.

        Raises:
            LabError: it ended, or does not answer in time.
        """
        if self.daemon is not None and self.daemon.returncode is None:
            msg = f"{self.name}: tailnetd is running already"
            raise LabError(msg)
        command = self.daemon_command("--verbose=1", *flags)
        if user is not None:
            self.directory.parent.chmod(0o711)  # theirs lies below
            shutil.chown(self.directory, user)
            command = [
                "setpriv",
                f"--reuid={user}",
                f"--regid={user}",
                "--clear-groups",
                "--no-new-privs",
                *command,
            ]
        name = f"tailnetd of {self.name}"
        daemon = Process(name, command, self.log, namespace=self.namespace, env=self.environment())
        self.daemon = daemon
        if wait:
            self.wait_for_socket(START_TIMEOUT)
        return daemon

    def wait_for_socket(self, timeout: float) -> None:
        """Wait until the daemon's socket answers.

        Raises:
            LabError: it does not in time, or the daemon has ended.
        """

        def answers() -> bool:
            if self.daemon is not None:
                self.daemon.check()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                return probe.connect_ex(str(self.socket)) == 0

        until(f"tailnetd of {self.name}", answers, timeout)

    def stop(self) -> int:
        """SIGTERM; exit code."""
        code = self.running.stop()
        self.daemon = None
        return code

    def kill9(self) -> None:
        """SIGKILL, as a crash or the kernel's memory killer would."""
        self.running.kill()
        self.daemon = None

    def forget(self) -> None:
        """Kill and collect its programs; nothing is expected of this host any more."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon = None
        for process in self._spawned:
            process.kill()
        self._spawned.clear()

    @property
    def running(self) -> Process:
        """The daemon's process.

        Raises:
            LabError: it was never started.
        """
        if self.daemon is None:
            msg = f"{self.name}: tailnetd is not running"
            raise LabError(msg)
        return self.daemon

    # --- its LocalAPI -------------------------------------------------------

    def tnet(
        self,
        *arguments: str,
        check: bool = True,
        timeout: float = 30.0,
        feed: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``tnet --socket … ARGUMENTS`` on this host, with ``feed`` as its standard input."""
        command = [str(BIN / "tnet"), f"--socket={self.socket}", *arguments]
        return run(
            command,
            namespace=self.namespace,
            env=self.environment(),
            check=check,
            timeout=timeout,
            feed=feed,
        )

    def up_arguments(self, auth_key: str) -> list[str]:
        """``tnet up`` with this host's name and login server."""
        login = [f"--login-server={self.login_server}", f"--auth-key={auth_key}"]
        return ["up", *login, f"--hostname={self.name}", "--accept-routes"]

    def up(self, auth_key: str, *flags: str, timeout: float = UP_TIMEOUT) -> str:
        """Run :meth:`up_arguments` to its end; its output."""
        return self.tnet(*self.up_arguments(auth_key), *flags, timeout=timeout).stdout

    def begin_up(self, auth_key: str) -> Process:
        """Start :meth:`up_arguments`; it ends when the host is up."""
        command = [str(BIN / "tnet"), f"--socket={self.socket}", *self.up_arguments(auth_key)]
        return self.spawn("up", *command)

    def status(self) -> dict[str, Any]:
        """``GET /localapi/v0/status``, without the cost of starting ``tnet``.

        Raises:
            LabError: the daemon does not answer.
        """
        connection = _UnixConnection(self.socket)
        try:
            connection.request("GET", "/localapi/v0/status")
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            if self.daemon is not None:
                self.daemon.check()
            msg = f"{self.name}: no status from tailnetd: {error}"
            raise LabError(msg) from None
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            msg = f"{self.name}: status answered {response.status}: {body[:200]!r}"
            raise LabError(msg)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        """Status and body of ``/localapi/v0/PATH``."""
        connection = _UnixConnection(self.socket)
        try:
            connection.request(method, f"/localapi/v0/{path}", body or None)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def wait_running(self, timeout: float = 10.0) -> None:
        """Wait until the state is ``Running``."""
        until(
            f"{self.name} to be Running",
            lambda: self.status()["BackendState"] == "Running",
            timeout,
        )

    def peers(self) -> set[str]:
        """Host names of the peers it knows."""
        known: dict[str, dict[str, Any]] = self.status()["Peer"] or {}
        return {str(peer["HostName"]) for peer in known.values()}

    def wait_peers(self, wanted: set[str], timeout: float = 10.0) -> None:
        """Wait until it knows exactly these peers."""
        what = f"{self.name} to see {', '.join(sorted(wanted)) or 'nobody'}"
        until(what, lambda: self.peers() == wanted, timeout)

    @property
    def ipv4(self) -> IPv4Address:
        """Its tailnet IPv4 address."""
        found = [ip_address(text) for text in self.status()["TailscaleIPs"] or ()]
        return next(address for address in found if isinstance(address, IPv4Address))

    @property
    def ipv6(self) -> IPv6Address:
        """Its tailnet IPv6 address."""
        found = [ip_address(text) for text in self.status()["TailscaleIPs"] or ()]
        return next(address for address in found if isinstance(address, IPv6Address))

    def peer(self, name: str) -> dict[str, Any] | None:
        """Its view of a peer (Go's PeerStatus), or ``None`` if it does not know it."""
        peers: dict[str, dict[str, Any]] = self.status()["Peer"] or {}
        return next((peer for peer in peers.values() if peer["HostName"] == name), None)

    def path_to(self, name: str) -> str:
        """Address of the direct path to a peer; empty when relayed."""
        peer = self.peer(name)
        return str(peer["CurAddr"]) if peer is not None else ""

    # --- the operating system -----------------------------------------------

    def exec(
        self, *argv: str | Path, check: bool = True, timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run any program on this host to its end."""
        return run(
            argv,
            namespace=self.namespace,
            env=self.environment(),
            check=check,
            timeout=timeout,
        )

    def spawn(self, name: str, *argv: str | Path, env: Mapping[str, str] | None = None) -> Process:
        """Start a program on this host and keep it running; it ends with the lab.

        Args:
            name: of its log file, without ``.log``.
            argv: program and arguments.
            env: in addition to :meth:`environment`.
        """
        log = self.directory / f"{name}.log"
        log.unlink(missing_ok=True)
        title = f"{name} of {self.name}"
        environment = self.environment(**(env or {}))
        process = Process(title, argv, log, namespace=self.namespace, env=environment)
        self._spawned = [other for other in self._spawned if other.returncode is None]
        self._spawned.append(process)
        return process

    def ping_os(
        self, to: object, *, count: int = 3, interval: float = 0.2, wait: float = 2.0
    ) -> PingResult:
        """The operating system's ``ping``.

        Args:
            to: address, IPv4 or IPv6.
            count: echo requests.
            interval: seconds between them.
            wait: seconds to wait for the last answer.
        """
        command = ["ping", "-n", "-q", f"-c{count}", f"-i{interval}", f"-W{wait:g}", str(to)]
        limit = count * interval + wait + 10
        return parse_ping(self.exec(*command, check=False, timeout=limit).stdout)

    def shell_command(self) -> list[str]:
        """How a person enters this host: a shell whose ``tnet`` talks to this host's daemon."""
        rc = self.directory / "bashrc"
        rc.write_text(
            f"export TAILNETD_SOCKET={self.socket} PATH={BIN}:$PATH\nPS1='{self.name}# '\n"
        )
        return in_namespace(self.namespace, ["bash", "--rcfile", rc])


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's socket, with the Host header it expects."""

    def __init__(self, path: Path) -> None:
        super().__init__("local-tailscaled.sock", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))
