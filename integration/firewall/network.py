"""A router between a peer and a subnet, in namespaces that go with the test.

::

    peer 100.64.0.2 ── tun0 100.64.0.1 (router) 10.77.0.1 lan0 ── far 10.77.0.2
    fd7a:115c:a1e0::2         ::1               fd77::1           fd77::2

``tun0`` is a veth with the name of the tunnel: rules cannot tell.  ``far`` has no route to it.
"""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.platform_netns import ip, private_network

TUN = "tun0"
PORT = 41641
PEER, OWN, FAR = "100.64.0.2", "100.64.0.1", "10.77.0.2"
PEER6, OWN6, FAR6 = "fd7a:115c:a1e0::2", "fd7a:115c:a1e0::1", "fd77::2"


def said(*words: str, feed: str | None = None) -> str:
    """Run a program that must succeed, and return what it says."""
    done = subprocess.run(
        words, input=feed, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def nft(*words: str) -> str:
    """Run ``nft``."""
    return said("nft", *words)


def ruleset() -> str:
    """Everything there is, without counts and without what ``nft`` warns of."""
    return re.sub(r"packets \d+ bytes \d+", "", nft("list", "ruleset"))


class Network:
    """The router is where the calling thread is."""

    def __init__(self, peer: int, far: int) -> None:
        self._namespaces = {"peer": peer, "far": far}

    def path(self, who: str) -> str:
        """Of the namespace."""
        return f"/proc/{os.getpid()}/fd/{self._namespaces[who]}"

    def words(self, who: str, *words: str) -> list[str]:
        """The command line that runs there."""
        return ["nsenter", f"--net={self.path(who)}", *words]

    def pings(self, who: str, address: str) -> bool:
        """One ping is answered."""
        words = self.words(who, "ping", "-n", "-c1", "-W0.4", address)
        return subprocess.run(words, capture_output=True, timeout=10, check=False).returncode == 0

    def hears(self, who: str, own: str, port: int) -> bool:
        """A datagram from there gets to a socket of the router."""
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((own, port))
            sock.settimeout(0.4)
            said(*self.words(who, "bash", "-c", f"echo x >/dev/udp/{own}/{port}"))
            try:
                return sock.recv(9) == b"x\n"
            except TimeoutError:
                return False

    def flows(self) -> dict[str, bool]:
        """What gets through."""
        return {
            "peer to router": all(self.hears("peer", own, 7777) for own in (OWN, OWN6)),
            "peer to subnet": all(self.pings("peer", far) for far in (FAR, FAR6)),
            "our port": all(self.hears("far", own, PORT) for own in ("10.77.0.1", "fd77::1")),
        }


ALL = dict.fromkeys(("peer to router", "peer to subnet", "our port"), True)
NONE = dict.fromkeys(ALL, False)


@contextmanager
def network() -> Iterator[Network]:
    """Made, and gone with the last descriptor."""
    with ExitStack() as stack:
        found = []
        for _ in range(2):
            with private_network():
                ip("link", "set", "lo", "up")
                found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
                stack.callback(os.close, found[-1])
        stack.enter_context(private_network())
        made = Network(*found)
        ip("link", "set", "lo", "up")
        for who, name, pairs in (
            ("peer", TUN, (((OWN, 32), (PEER, 32)), ((OWN6, 128), (PEER6, 128)))),
            ("far", "lan0", ((("10.77.0.1", 24), (FAR, 24)), (("fd77::1", 64), (FAR6, 64)))),
        ):
            end = ["peer", "name", "eth0", "netns", made.path(who)]
            ip("link", "add", name, "type", "veth", *end)
            ip("link", "set", name, "up")
            said(*made.words(who, "ip", "link", "set", "eth0", "up"))
            for (own, bits), (other, _) in pairs:
                ip("address", "add", f"{own}/{bits}", "dev", name, "nodad")
                there = ["ip", "address", "add", f"{other}/{bits}", "dev", "eth0", "nodad"]
                said(*made.words(who, *there))
        for own, peer, subnet in ((OWN, PEER, "10.77.0.0/24"), (OWN6, PEER6, "fd77::/64")):
            ip("route", "add", peer, "dev", TUN)
            said(*made.words("peer", "ip", "route", "add", own, "dev", "eth0"))
            said(*made.words("peer", "ip", "route", "add", subnet, "via", own))
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            said("sysctl", "-qw", f"{name}=1")
        yield made
