"""What the router's tests see of the kernel, by ``ip`` and by sockets."""

import json
import socket
from collections.abc import Iterable
from ipaddress import ip_interface, ip_network
from pathlib import Path

from integration.lab.waiting import until
from tests.support.platform_netns import ip

from tailnet.platform.interface import RouterConfig
from tailnet.platform.linux.rules import Interface, Prefix

TUN = "tailnet0"
MARK = 0x80000
OUR_RULES = [
    "5210:\tfrom all fwmark 0x80000/0xff0000 lookup main",
    "5230:\tfrom all fwmark 0x80000/0xff0000 lookup default",
    "5250:\tfrom all fwmark 0x80000/0xff0000 unreachable",
    "5270:\tfrom all lookup 52",
]


def in_force() -> RouterConfig:
    """Read by ``ip``."""
    addrs: set[Interface] = set()
    routes: set[Prefix] = set()
    throws: set[Prefix] = set()
    for link in json.loads(ip("-j", "address", "show", "dev", TUN)):
        for addr in link["addr_info"]:
            if addr["scope"] == "global":
                addrs.add(ip_interface(f"{addr['local']}/{addr['prefixlen']}"))
    for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for route in json.loads(ip("-j", family, "route", "show", "table", "all")):
            if route.get("table") != "52":  # asking for it is an error before its first route
                continue
            dst = everything if route["dst"] == "default" else route["dst"]
            throw = route.get("type") == "throw"
            assert throw or route["dev"] == TUN
            (throws if throw else routes).add(ip_network(dst))
    return RouterConfig(frozenset(addrs), frozenset(routes), frozenset(throws))


def our_rules(family: str) -> list[str]:
    """The rules of the window that look like ours, by ``ip``."""
    return [r for line in ip(family, "rule").splitlines() if (r := line.strip()) in OUR_RULES]


def disable_ipv6(device: str) -> None:
    """Of one device, or all."""
    Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1", encoding="ascii")


def rules_and_table() -> str:
    """Everything of ours that survives the device."""
    shown = [ip(f, "rule") + ip(f, "route", "show", "table", "52") for f in ("-4", "-6")]
    return "".join(shown)


def way(dst: str, mark: int = 0) -> str:
    """The device that packets to ``dst`` leave by, or the kernel's refusal."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            sock.connect((dst, 9))
        except OSError as error:
            return error.strerror or str(error)
        return {"192.0.2.2": "eth0", "100.64.0.1": TUN}[sock.getsockname()[0]]


def until_local(addrs: Iterable[Interface]) -> None:
    """The kernel made the routes to our IPv6 addresses; a work queue of its does, soon after."""
    wanted = [f"local {addr.ip} dev {TUN} " for addr in addrs if addr.version == 6]

    def made() -> bool:
        there = ip("-6", "route", "show", "table", "local")
        return all(route in there for route in wanted)

    until("the local routes", made, 10.0)
