"""A home router: a host of the lab that another one is put behind, with ``miniupnpd``.

::

    servers, others ── segment ── eth0 │ router │ lan0 ── 192.168.77.2, the host
                                       11.99.0.1

Every connection gets a random port outside and only answers come in, so a host behind it can be
reached directly by nobody who is firewalled himself, unless the router maps a port.  ``miniupnpd``
insists on a public address outside: one that nobody has, known on this segment alone.
"""

import json
import shutil
from ipaddress import IPv4Address
from pathlib import Path

from integration.lab.host import PORT, Host
from integration.lab.net import UPLINK
from integration.lab.process import Process, run
from integration.lab.waiting import until

OUTSIDE = IPv4Address("11.99.0.1")
INSIDE = IPv4Address("192.168.77.1")
HOST = IPv4Address("192.168.77.2")
LAN = "lan0"
LONGEST = 86_400  # seconds of a lease by PCP

_RULES = f"""\
table inet nat {{
	chain mapped {{ }}
	chain mappedout {{ }}
	chain pre {{
		type nat hook prerouting priority -100;
		jump mapped
	}}
	chain post {{
		type nat hook postrouting priority 100;
		jump mappedout
		oifname "{UPLINK}" masquerade random,fully-random
	}}
}}
table inet filter {{
	chain allowed {{ }}
	chain spoken {{
		type filter hook input priority 0;
	}}
	chain forward {{
		type filter hook forward priority 0; policy drop;
		jump allowed
		iifname "{LAN}" accept
		ct state established,related accept
	}}
}}
"""
_SPEECH = {
    "pmp": "udp dport 5351 @th,64,8 0 drop",
    "pcp": "udp dport 5351 @th,64,8 2 drop",
    "upnp": "udp dport 1900 drop",
}
_CONFIG = """\
ext_ifname={uplink}
ext_ip={outside}
listening_ip={lan}
http_port=5000
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
system_uptime=no
min_lifetime=2
max_lifetime={longest}
lease_file={leases}
upnp_table_name=filter
upnp_nat_table_name=nat
upnp_forward_chain=allowed
upnp_nat_chain=mapped
upnp_nat_postrouting_chain=mappedout
uuid=6f1a3c9e-0000-4000-8000-000000000001
allow 1024-65535 192.168.77.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


def missing() -> str:
    """Why there can be no such router; empty if there can."""
    return "" if shutil.which("miniupnpd") else "miniupnpd is not installed"


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
        run(["nft", "-f", "-"], namespace=self.place.namespace, feed=rules + _RULES)

    def speak(self, *protocols: str) -> None:
        """Answer in no other than these: ``pmp``, ``pcp``, ``upnp``."""
        lines = ["flush chain inet filter spoken"]
        lines += [
            f'add rule inet filter spoken iifname "{LAN}" {rule}'
            for name, rule in _SPEECH.items()
            if name not in protocols
        ]
        run(["nft", "-f", "-"], namespace=self.place.namespace, feed="\n".join(lines) + "\n")

    def start(self, *, longest: int = LONGEST) -> None:
        """Map ports; ``longest``: seconds of a lease by PCP."""
        config = self._directory / "miniupnpd.conf"
        leases = self._directory / "leases"
        leases.unlink(missing_ok=True)
        config.write_text(
            _CONFIG.format(uplink=UPLINK, outside=OUTSIDE, lan=LAN, longest=longest, leases=leases)
        )
        command = ["miniupnpd", "-d", "-f", str(config), "-P", str(self._directory / "pid")]
        self._daemon = Process(
            "miniupnpd",
            command,
            self._directory / "miniupnpd.log",
            namespace=self.place.namespace,
        )
        until("miniupnpd", self._listens, 10)

    def _listens(self) -> bool:
        assert self._daemon is not None
        self._daemon.check()
        return "5351" in self.place.exec("ss", "-uln").stdout

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
