"""A home router: a host of the lab that another one is put behind, with ``miniupnpd``.

::

    servers, others ── segment ── eth0 │ router │ lan0 ── 192.168.77.2, the host
                                       11.99.0.1

Every connection gets a random port outside and only answers come in, so a host behind it can be
reached directly by nobody who is firewalled himself, unless the router maps a port.  ``miniupnpd``
insists on a public address outside: one that nobody has, known on this segment alone.
"""

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from integration.lab import miniupnpd
from integration.lab.host import PORT, Host
from integration.lab.process import Process, run
from integration.lab.translator import UPLINK

OUTSIDE = IPv4Address("11.99.0.1")
INSIDE = IPv4Address("192.168.77.1")
HOST = IPv4Address("192.168.77.2")
LAN = "lan0"


class Router:
    """Routes from its birth on; it maps ports between :meth:`start` and :meth:`stop`.

    Args:
        place: the host of the segment that becomes the router.
        behind: the host that moves behind it.
        others: hosts that shall reach the router's address outside.
    """

    def __init__(self, place: Host, behind: Host, others: list[Host]) -> None:
        self.place = place
        self._daemon: Process | None = None
        self._directory = place.directory
        run(
            ["ip", "-n", place.namespace, "-batch", "-"],
            feed=f"""\
                link add {LAN} type veth peer name {LAN} netns {behind.namespace}
                address add {INSIDE}/24 dev {LAN}
                address add {OUTSIDE}/32 dev {UPLINK}
                link set {LAN} up
                """,
        )
        run(
            ["ip", "-n", behind.namespace, "-batch", "-"],
            feed=f"""\
                link set {UPLINK} down
                address add {HOST}/24 dev {LAN}
                link set {LAN} up
                route add default via {INSIDE}
                """,
        )
        for host in others:
            run(["ip", "-n", host.namespace, "route", "add", f"{OUTSIDE}/32", "dev", UPLINK])
        place.exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.reset()

    def reset(self) -> None:
        """Forget all mappings and connections, and speak everything."""
        rules = "".join(
            f"table inet {name}\ndelete table inet {name}\n" for name in ("nat", "filter")
        )
        rules += miniupnpd.rules(LAN, UPLINK)
        run(["nft", "-f", "-"], namespace=self.place.namespace, feed=rules)

    def speak(self, *protocols: str) -> None:
        """Answer in no other than these: ``pmp``, ``pcp``, ``upnp``."""
        miniupnpd.speak(self.place.namespace, LAN, protocols)

    def start(self, *, longest: int = miniupnpd.LONGEST) -> None:
        """Map ports; ``longest``: seconds of a lease by PCP."""
        self._daemon = miniupnpd.start(
            self.place.namespace,
            self._directory,
            lan=LAN,
            uplink=UPLINK,
            outside=OUTSIDE,
            inside=IPv4Network(f"{HOST}/24", strict=False),
            longest=longest,
        )

    def stop(self) -> None:
        """Stop mapping; what was mapped is over."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def mappings(self) -> set[int]:
        """Ports outside that lead to the host's UDP port, as the kernel has them."""
        said = self.place.exec("nft", "-j", "list", "chain", "inet", "nat", "mapped").stdout
        return _dnat_ports(said)

    def log(self) -> str:
        """What miniupnpd said."""
        path = Path(self._directory / "miniupnpd.log")
        return path.read_text(errors="replace") if path.exists() else ""


def _dnat_ports(text: str) -> set[int]:
    found = set()
    for item in json.loads(text)["nftables"]:
        parts = item.get("rule", {}).get("expr", [])
        dnat = next((part["dnat"] for part in parts if "dnat" in part), None)
        if dnat is None or dnat.get("addr") != str(HOST) or dnat.get("port") != PORT:
            continue
        found |= {
            part["match"]["right"]
            for part in parts
            if part.get("match", {}).get("left", {}).get("payload", {}).get("field") == "dport"
        }
    return found
