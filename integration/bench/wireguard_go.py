"""Debian's ``wireguard-go`` on hosts of a lab, to compare with."""

import shutil
from ipaddress import IPv4Address

from integration.lab.host import Host
from integration.lab.process import LabError, Process, run
from integration.lab.waiting import until

MTU = 1280  # as ours
PORT = 51820
NEEDED = ("wireguard-go", "wg")


def missing() -> list[str]:
    """Programs it needs and this machine does not have."""
    return [name for name in NEEDED if shutil.which(name) is None]


class WireGuardGo:
    """One end of a tunnel of two.

    Args:
        host: where it runs.
        address: inside the tunnel.
        device: name; unique on the machine, as its control socket in ``/run/wireguard`` is. Begins
            with the lab's tag, so that the socket is removed with the lab.
    """

    def __init__(self, host: Host, address: IPv4Address, device: str) -> None:
        self.host = host
        self.address = address
        self.device = device
        self.key = host.directory / "wg.key"
        self.key.touch(0o600)
        self.key.write_text(run(["wg", "genkey"]).stdout)
        self.public = run(["wg", "pubkey"], feed=self.key.read_text()).stdout.strip()
        self.process: Process = host.spawn("wireguard-go", "wireguard-go", "-f", device)

    def connect(self, other: "WireGuardGo") -> None:
        """Configure it to talk to the other end.

        Raises:
            LabError: it does not come up.
        """

        def configurable() -> bool:
            self.process.check()
            shown = self.host.exec("wg", "show", self.device, check=False)
            return shown.returncode == 0

        until(f"{self.process.name}", configurable, 10)
        peer = ["peer", other.public, "allowed-ips", f"{other.address}/32"]
        endpoint = ["endpoint", f"{other.host.underlay}:{PORT}"]
        own = ["listen-port", str(PORT), "private-key", str(self.key)]
        self.host.exec("wg", "set", self.device, *own, *peer, *endpoint)
        self.host.exec("ip", "address", "add", f"{self.address}/32", "dev", self.device)
        self.host.exec("ip", "link", "set", self.device, "up", "mtu", str(MTU))
        self.host.exec("ip", "route", "add", f"{other.address}/32", "dev", self.device)

    def check(self, other: "WireGuardGo") -> None:
        """Make sure the tunnel works.

        Raises:
            LabError: no ping comes back.
        """
        if self.host.ping_os(other.address, count=2).received == 0:
            msg = "no ping through wireguard-go"
            raise LabError(msg)
