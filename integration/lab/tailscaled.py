"""``tailscaled`` as a node of the lab's tailnet; the program is the user's own."""

import json
from ipaddress import IPv4Address
from pathlib import Path

from integration.lab.config import AUTH_KEY
from integration.lab.host import DEVICE, PORT, Host
from integration.lab.process import LabError, Process
from integration.lab.waiting import until

UP_TIMEOUT, DIRECT_TIMEOUT = 30.0, 30.0  # seconds


class Tailscaled:
    """One node on one host of the lab, without a daemon of ours.

    Args:
        host: where it runs.
        program: path of ``tailscaled``; the command line tool ``tailscale`` lies beside it.

    Raises:
        LabError: one of the programs is not there.
    """

    def __init__(self, host: Host, program: Path) -> None:
        self.host = host
        self.tool = program.with_name("tailscale")
        for path in (program, self.tool):
            if not path.is_file():
                msg = f"{path} does not exist"
                raise LabError(msg)
        state = host.directory / "tailscaled"
        state.mkdir()
        self.socket = state / "sock"
        command = [program, f"--statedir={state}", f"--socket={self.socket}"]
        command += [f"--tun={DEVICE}", f"--port={PORT}", "--no-logs-no-support"]
        self.process: Process = host.spawn("tailscaled", *map(str, command))

    def ask(self, *words: str, timeout: float = 30.0) -> str:
        """Run ``tailscale``; its output."""
        return self.host.exec(self.tool, f"--socket={self.socket}", *words, timeout=timeout).stdout

    def up(self) -> None:
        """Join the lab's tailnet."""
        until("tailscaled's socket", self.socket.exists, UP_TIMEOUT)
        login = [f"--login-server={self.host.login_server}", f"--auth-key={AUTH_KEY}"]
        self.ask("up", *login, f"--hostname={self.host.name}", timeout=UP_TIMEOUT)

    @property
    def address(self) -> IPv4Address:
        """Inside the tailnet."""
        return IPv4Address(self.ask("ip", "-4").strip())

    def wait_direct(self, other: "Tailscaled") -> None:
        """Wait until it uses a direct path to another.

        Raises:
            LabError: it does not in time.
        """
        to = other.address

        def direct() -> bool:
            self.host.ping_os(to, count=1)
            peers = json.loads(self.ask("status", "--json"))["Peer"] or {}
            return any(p["CurAddr"] for p in peers.values() if str(to) in p["TailscaleIPs"])

        until(f"a direct path from {self.host.name}", direct, DIRECT_TIMEOUT)
