"""Subnet routers and exit nodes, ours and ``tailscaled``, each used by both: ``make routing``.

::

    clients co, cg ── bridge: control, DERP, STUN, "the internet" ── routers ro, rg ── subnets

``o`` is ours, ``g`` is Go's.  A server in each place says from where it is asked; counters say by
which way packets went.  Without a ``tailscaled`` there is only ours.  The table goes into
docs/interop.md.
"""

import argparse
import os
import re
import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import NamedTuple, Protocol

from integration.lab.config import AUTH_KEY
from integration.lab.host import DEVICE, Host
from integration.lab.lab import Lab
from integration.lab.process import LabError, Process, run
from integration.lab.tailscaled import Tailscaled
from integration.lab.topology import flat
from integration.lab.waiting import until

from tailnet.agent.addr import via

VARIABLE = "TAILSCALED"  # path of the program, with ``tailscale`` beside it
PAGE = Path(__file__).resolve().parents[2] / "docs" / "interop.md"
BEGIN, END = "<!-- routing: made by make routing -->", "<!-- end of routing -->"
NAMES = {"o": "ours", "g": "tailscaled 1.90.9"}
SITE = 7  # of 4via6
TIMEOUT = 20.0  # seconds for a wish to be in force
SERVE = """
import socketserver
class Says(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(self.client_address[0].removeprefix("::ffff:").encode() + b"\\n")
class Server(socketserver.ThreadingTCPServer):
    address_family = 10
    allow_reuse_address = True
Server(("::", 7007), Says).serve_forever()
"""
PROBE = f"""
table inet probe {{
	chain out {{
		type filter hook postrouting priority 300;
		oifname "eth0" tcp dport 7007 counter
	}}
	chain through {{
		type filter hook forward priority 300;
		iifname "{DEVICE}" tcp dport 7007 counter
	}}
}}
"""


class Node(Protocol):
    """A node, whoever made it."""

    host: Host

    def up(self) -> None:
        """Join."""

    def set(self, *flags: str) -> None:
        """Wish."""


class Ours:
    """``tailnetd``."""

    def __init__(self, host: Host) -> None:
        self.host = host
        host.start()

    def up(self) -> None:
        """Join."""
        self.host.up(AUTH_KEY)

    def set(self, *flags: str) -> None:
        """Wish."""
        self.host.tnet("set", *flags)


class Theirs(Tailscaled):
    """``tailscaled``, with wishes."""

    def set(self, *flags: str) -> None:
        """Wish."""
        self.ask("set", *flags)


class Place(NamedTuple):
    """Where there is a server, by its two addresses."""

    v4: str
    v6: str


class Cell(NamedTuple):
    """What one client saw through one router."""

    client: str
    router: str
    what: str
    sources: tuple[str, str]
    wanted: tuple[str, str]

    @property
    def good(self) -> bool:
        """As expected, by both families."""
        return self.sources == self.wanted


_SEEN_AS = {
    "subnet": "the router",
    "subnet, no SNAT": "the client",
    "4via6": "the router",
    "exit node": "the exit node",
}
INTERNET = Place("203.0.113.1", "2001:db8:ffff::1")


class Bench:
    """All nodes, in one lab."""

    def __init__(self, lab: Lab, program: Path | None) -> None:
        self.lab = lab
        self._servers: list[Process] = []
        tag = lab.hosts["co"].namespace.rpartition("-")[0]
        inet = f"{tag}-inet"
        for address in (f"{INTERNET.v4}/32", f"{INTERNET.v6}/128"):
            run(["ip", "-n", inet, "address", "add", address, "dev", "lo"])
        self._serve(inet)
        self.nodes: dict[str, Node] = {}
        self.subnets: dict[str, Place] = {}
        for number, (name, host) in enumerate(lab.hosts.items(), 1):
            host.exec("ip", "route", "add", "default", "via", "10.99.0.1")
            host.exec("ip", "-6", "route", "add", "default", "via", "fd99::1")
            run(["nft", "-f", "-"], namespace=host.namespace, feed=PROBE)
            if name[0] == "r":
                self._subnet(name, host, f"{tag}-far{name}", number)
            ours = name[1] == "o"
            self.nodes[name] = Ours(host) if ours else Theirs(host, _existing(program))
        for node in self.nodes.values():
            node.up()

    def _subnet(self, name: str, host: Host, far: str, number: int) -> None:
        run(["ip", "netns", "add", far])
        link = ["link", "add", "lan0", "type", "veth", "peer", "eth0", "netns", far]
        run(["ip", "-n", host.namespace, *link])
        for ns, device, last in ((host.namespace, "lan0", 1), (far, "eth0", 2)):
            run(["ip", "-n", ns, "address", "add", f"10.77.{number}.{last}/24", "dev", device])
            six = f"fd77:{number}::{last}/64"
            run(["ip", "-n", ns, "address", "add", six, "dev", device, "nodad"])
            run(["ip", "-n", ns, "link", "set", device, "up"])
        run(["ip", "-n", far, "route", "add", "default", "via", f"10.77.{number}.1"])
        run(["ip", "-n", far, "-6", "route", "add", "default", "via", f"fd77:{number}::1"])
        for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            host.exec("sysctl", "-qw", f"{setting}=1")
        self.subnets[name] = Place(f"10.77.{number}.2", f"fd77:{number}::2")
        self._serve(far)

    def _serve(self, namespace: str) -> None:
        log = self.lab.hosts["co"].directory / f"{namespace}.log"
        command = [sys.executable, "-c", SERVE]
        self._servers.append(Process(namespace, command, log, namespace=namespace))

    def close(self) -> None:
        """End the servers; the lab ends the rest."""
        for server in self._servers:
            server.kill()

    def examine(self) -> list[Cell]:
        """Every client through every router.

        Raises:
            LabError: something is not reached at all.
        """
        clients = [name for name in self.nodes if name[0] == "c"]
        cells = []
        for router, place in self.subnets.items():
            offer = f"--advertise-routes={_net(place.v4, 24)},{_net(place.v6, 64)}"
            offer += f",{via(SITE, IPv4Network(_net(place.v4, 24)))}"
            self.nodes[router].set(offer, "--advertise-exit-node", "--snat-subnet-routes")
        for client in clients:
            self.nodes[client].set("--accept-routes")
        for snat in (True, False):
            for router, place in self.subnets.items():
                self.nodes[router].set(f"--snat-subnet-routes={str(snat).lower()}")
                own = (place.v4[:-1] + "1", place.v6[:-1] + "1")
                for client in clients:
                    wanted = own if snat else self._addresses(client)
                    what = "subnet" if snat else "subnet, no SNAT"
                    cells.append(self._look(client, router, place, what, wanted))
        for router, place in self.subnets.items():
            self.nodes[router].set("--snat-subnet-routes")
            site = via(SITE, IPv4Network(f"{place.v4}/32")).network_address
            wanted = (place.v4[:-1] + "1",) * 2
            for client in clients:
                by_site = place._replace(v6=str(site))
                cells.append(self._look(client, router, by_site, "4via6", wanted))
        for router in self.subnets:
            self.nodes[router].set("--snat-subnet-routes")
            host = self.nodes[router].host
            wanted = (str(host.underlay), _ipv6(host))
            for client in clients:
                node = self._addresses(router)[0]
                self.nodes[client].set(f"--exit-node={node}")
                cells.append(self._look(client, router, INTERNET, "exit node", wanted))
                self.nodes[client].set("--exit-node=")
        return cells

    def _look(
        self, client: str, router: str, place: Place, what: str, wanted: tuple[str, str]
    ) -> Cell:
        """Until it is as wanted; then once more, with an eye on the ways."""
        host, behind = self.nodes[client].host, self.nodes[router].host
        name = f"{client} through {router}: {what}"
        until(name, lambda: (_seen(host, place.v4), _seen(host, place.v6)) == wanted, TIMEOUT)
        before = _count(host, "out"), _count(behind, "through")
        found = _seen(host, place.v4), _seen(host, place.v6)
        past, through = (_count(host, "out") - before[0], _count(behind, "through") - before[1])
        if past or not through:
            msg = f"{name}: {past} packets past the tunnel, {through} through the router"
            raise LabError(msg)
        return Cell(client, router, what, found, wanted)

    def _addresses(self, name: str) -> tuple[str, str]:
        nodes = self.lab.admin("nodes")
        node = next(n for n in nodes if n["name"] == name)
        four, six = (str(address).partition("/")[0] for address in node["addresses"])
        return four, six


def _existing(program: Path | None) -> Path:
    if program is None:
        msg = "no tailscaled"
        raise LabError(msg)
    return program


def _net(address: str, bits: int) -> str:
    return f"{address[:-1]}{'0' if bits == 24 else ''}/{bits}"


def _ipv6(host: Host) -> str:
    shown = host.exec("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "global").stdout
    return shown.split()[3].partition("/")[0]


def _seen(host: Host, address: str) -> str:
    """As whom a server there sees the host; empty if it does not answer."""
    ask = f"exec 3<>/dev/tcp/{address}/7007 && head -1 <&3"
    return host.exec("timeout", "2", "bash", "-c", ask, check=False).stdout.strip()


def _count(host: Host, chain: str) -> int:
    shown = host.exec("nft", "list", "chain", "inet", "probe", chain).stdout
    return sum(map(int, re.findall(r"packets (\d+)", shown)))


def examine(lab: Lab, program: Path | None) -> list[Cell]:
    """All cells of a fresh lab of :func:`names`."""
    bench = Bench(lab, program)
    try:
        return bench.examine()
    finally:
        bench.close()


def names(program: Path | None) -> tuple[str, ...]:
    """The hosts that there must be."""
    return ("co", "ro") if program is None else ("co", "cg", "ro", "rg")


def named() -> Path | None:
    """The program that the environment names."""
    text = os.environ.get(VARIABLE)
    return Path(text) if text else None


def table(cells: list[Cell]) -> str:
    """For the page."""
    lines = ["| client | router | what | IPv4: seen as | IPv6: seen as |", "|---|---|---|---|---|"]
    for cell in cells:
        who = _SEEN_AS[cell.what]
        seen = (
            who if s == w else f"**{s}**" for s, w in zip(cell.sources, cell.wanted, strict=True)
        )
        row = (NAMES[cell.client[1]], NAMES[cell.router[1]], cell.what, *seen)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Make the table, and put it into the page."""
    parser = argparse.ArgumentParser(prog="make routing", description=__doc__)
    parser.add_argument("--tailscaled", type=Path, default=named(), metavar="PATH")
    program = parser.parse_args().tailscaled
    lab = Lab(flat(*names(program)))
    try:
        lab.start()
        made = table(examine(lab, program))
    finally:
        lab.close()
    sys.stdout.write(made + "\n")
    if program is not None:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")


if __name__ == "__main__":
    main()
