"""``miniupnpd``, a real router's program that opens ports: by UPnP, NAT-PMP and PCP.

It works on the tables of :func:`rules`: every connection gets a random port outside and only
answers come in, unless a port is opened.  It insists on a public address outside.
"""

import shutil
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from integration.lab.process import Process, run
from integration.lab.waiting import until

LONGEST = 86_400  # seconds of a lease by PCP

_RULES = """\
table inet nat {
	chain mapped { }
	chain mappedout { }
	chain pre {
		type nat hook prerouting priority -100;
		jump mapped
	}
	chain post {
		type nat hook postrouting priority 100;
		jump mappedout
		oifname "%(wan)s" masquerade random,fully-random
	}
}
table inet filter {
	chain allowed { }
	chain spoken {
		type filter hook input priority 0;
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		jump allowed
		iifname "%(lan)s" accept
		ct state established,related accept
	}
}
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
allow 1024-65535 {inside} 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


def missing() -> str:
    """Why it cannot run; empty if it can."""
    return "" if shutil.which("miniupnpd") else "miniupnpd is not installed"


def rules(lan: str, wan: str) -> str:
    """Tables with nothing opened, for these interfaces."""
    return _RULES % {"lan": lan, "wan": wan}


def speak(namespace: str, lan: str, protocols: tuple[str, ...]) -> None:
    """Answer in no other than these: ``pmp``, ``pcp``, ``upnp``."""
    lines = ["flush chain inet filter spoken"]
    lines += [
        f'add rule inet filter spoken iifname "{lan}" {rule}'
        for name, rule in _SPEECH.items()
        if name not in protocols
    ]
    run(["nft", "-f", "-"], namespace=namespace, feed="\n".join(lines) + "\n")


def start(
    namespace: str,
    directory: Path,
    *,
    lan: str,
    uplink: str,
    outside: IPv4Address,
    inside: IPv4Network,
    longest: int = LONGEST,
) -> Process:
    """Run it until it listens; ``longest``: seconds of a lease by PCP."""
    config, leases = directory / "miniupnpd.conf", directory / "leases"
    leases.unlink(missing_ok=True)
    config.write_text(
        _CONFIG.format(
            uplink=uplink, outside=outside, lan=lan, inside=inside, longest=longest, leases=leases
        )
    )
    command = ["miniupnpd", "-d", "-f", str(config), "-P", str(directory / "pid")]
    log = directory / "miniupnpd.log"
    daemon = Process("miniupnpd", command, log, namespace=namespace)

    def listens() -> bool:
        daemon.check()
        return "5351" in run(["ss", "-uln"], namespace=namespace).stdout

    until("miniupnpd", listens, 10)
    return daemon
