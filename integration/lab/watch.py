"""What passes a machine's link without a relay: the same for every program."""

import re
from collections.abc import Collection
from ipaddress import ip_address

from integration.lab.host import Host
from integration.lab.topology import Topology
from integration.lab.translator import UPLINK
from integration.lab.waiting import until

from tailnet.agent.addr import IPAddress

# Relays are reached by TCP, so what comes by UDP came directly.
_DISCO = (
    "(ip[0] & 0x0f = 5 and ip[9] = 17 and udp[8:4] = 0x5453f09f and udp[12:2] = 0x92ac)"
    " or (ip6 and ip6[6] = 17 and ip6[48:4] = 0x5453f09f and ip6[52:2] = 0x92ac)"
)
# WireGuard's data (message type 4) with more in it than a keepalive has, which is 40 bytes of UDP.
_DATA = (
    "(ip[0] & 0x0f = 5 and ip[9] = 17 and udp[8:4] = 0x04000000 and udp[4:2] > 40)"
    " or (ip6 and ip6[6] = 17 and ip6[48:4] = 0x04000000 and ip6[44:2] > 40)"
)
_LINE = re.compile(r"^(\d+\.\d+) IP6? \S+ > (\S+)\.\d+: ", re.MULTILINE)


class _Watch:
    """``tcpdump`` on a machine's link, from its birth to the end of the lab."""

    def __init__(self, host: Host, direction: str, what: str) -> None:
        command = ["tcpdump", "-i", UPLINK, "-Q", direction, "-n", "-tt", "-l", "--immediate-mode"]
        self._tcpdump = host.spawn(f"tcpdump-{direction}", *command, what)

    def wait(self) -> None:
        """Until it sees everything."""
        until("tcpdump", lambda: "listening on" in self._said(), 10)

    def seen(self) -> list[tuple[float, IPAddress]]:
        """When something passed, by the clock of the wall [s], and to whom."""
        return [(float(at), ip_address(dst)) for at, dst in _LINE.findall(self._said())]

    def _said(self) -> str:
        self._tcpdump.check()
        return self._tcpdump.log.read_text(errors="replace")


class Beginnings(_Watch):
    """Disco that leaves: a node asks every address of a peer with its first packet for it."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "out", _DISCO)

    def first_since(self, at: float, places: Collection[IPAddress]) -> float | None:
        """When the first after ``at`` left for one of ``places`` [s]."""
        return next((each for each, to in self.seen() if each >= at and to in places), None)


class Arrivals(_Watch):
    """Data that comes directly."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "in", _DATA)

    def first_since(self, at: float) -> float | None:
        """When the first after ``at`` came [s]."""
        return next((each for each, _ in self.seen() if each >= at), None)


def places(topology: Topology, name: str) -> set[IPAddress]:
    """Every address that datagrams for a host may be sent to: its own, and those of its routers."""
    host = next(host for host in topology.hosts if host.name == name)
    found: set[IPAddress] = {host.ipv4.ip}
    if host.ipv6 is not None:
        found.add(host.ipv6.ip)
    behind = host.behind
    while behind:
        router = next(router for router in topology.routers if router.name == behind)
        found.add(router.wan.ip)
        if router.outside is not None:
            found.add(router.outside)
        behind = router.behind
    return found
