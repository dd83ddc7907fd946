"""A topology in the kernel: namespaces, a bridge, veth pairs, and who may send UDP to whom."""

from pathlib import Path

from integration.lab import private, translator
from integration.lab.process import LabError, run
from integration.lab.topology import HostSpec, RouterSpec, Topology
from integration.lab.translator import UPLINK, batch

BRIDGE = "br0"
SERVER_NAME = "control.lab"

_FIREWALL = """\
table bridge lab {
	chain forward {
		type filter hook forward priority 0;
		meta l4proto udp counter %s
	}
}
"""


class Network:
    """The kernel's side of one lab.

    Args:
        topology: what to build.
        tag: first part of every namespace's name.
    """

    def __init__(self, topology: Topology, tag: str) -> None:
        self.topology = topology
        self.tag = tag

    @property
    def internet(self) -> str:
        """The namespace that holds the bridge and the servers."""
        return self.namespace(self.topology.internet.name)

    def namespace(self, name: str) -> str:
        """Full name of the namespace of a host or segment."""
        return f"{self.tag}-{name}"

    def build(self) -> None:
        """Make everything.  What fails half-way is removed by :func:`residue.wipe`."""
        hosts = self.topology.hosts
        segment = self.topology.internet
        machines: list[RouterSpec | HostSpec] = [*self.topology.routers, *hosts]
        names = [segment.name, *(each.name for each in machines)]
        self._write_files(names)
        batch([f"netns add {self.namespace(name)}" for name in names])
        inside = [
            "link set lo up",
            f"link add {BRIDGE} type bridge forward_delay 0",
            f"address add {segment.ipv4} dev {BRIDGE}",
            f"address add {segment.ipv6} dev {BRIDGE} nodad",
            f"link set {BRIDGE} up",
        ]
        for each in machines:
            if not each.behind:
                port = f"v-{each.name}"
                peer = f"peer name {UPLINK} netns {self.namespace(each.name)}"
                inside.append(f"link add {port} type veth {peer}")
                inside.append(f"link set {port} master {BRIDGE} up")
        inside += translator.ways_in(self.topology, segment.name)
        batch(inside, namespace=self.internet)
        for router in self.topology.routers:
            translator.build(router, self.topology, self.namespace)
        for host in hosts:
            commands = ["link set lo up", f"address add {host.ipv4} dev {UPLINK}"]
            if host.ipv6 is not None:
                commands.append(f"address add {host.ipv6} dev {UPLINK} nodad")
            commands.append(f"link set {UPLINK} up")
            commands += translator.ways_out(host, self.topology)
            batch(commands, namespace=self.namespace(host.name))
        if not self.topology.udp:
            self.allow_udp(allowed=False)

    def allow_udp(self, *, allowed: bool) -> None:
        """Let UDP pass between hosts, or drop it silently.

        The bridge's ``forward`` hook sees only what goes from port to port, so UDP between a host
        and the servers is never touched.
        """
        rules = "table bridge lab\ndelete table bridge lab\n"
        rules += _FIREWALL % ("accept" if allowed else "drop")
        run(["nft", "-f", "-"], namespace=self.internet, feed=rules)

    def _write_files(self, names: list[str]) -> None:
        known = [(self.topology.internet.ipv4, SERVER_NAME)]
        known += [(host.ipv4, host.name) for host in self.topology.hosts]
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        lines += [f"{address.ip} {name}" for address, name in known]
        for name in names:
            private.make(self.namespace(name), "\n".join(lines) + "\n")


def require_namespaces() -> None:
    """Check that this process may make network namespaces.

    Raises:
        LabError: it may not; the text says why and what to do.
    """
    if (why := why_not()) is not None:
        raise LabError(why)


def why_not() -> str | None:
    """Why this process cannot run a lab, or ``None`` if it can."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    if not int(effective, 16) >> 21 & 1:  # CAP_SYS_ADMIN, linux/capability.h
        return "the lab makes network namespaces and needs root: run it with sudo"
    if not Path("/dev/net/tun").exists():
        return "the lab needs /dev/net/tun: load the module with `modprobe tun`"
    return None
