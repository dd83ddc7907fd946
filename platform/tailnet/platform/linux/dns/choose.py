"""Which program of the host is to be told how to resolve names; pure.

``/etc/resolv.conf`` says in its comments who wrote it, and that one is asked, if it is there and
programs really use it.  Otherwise the file is replaced.

Source: tailscale net/dns/manager_linux.go, dnsMode.
"""

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from tailnet.platform.linux.dns.text import owner, parse

STUB = IPv4Address("127.0.0.53")  # where systemd-resolved answers


class Mode(Enum):
    """Who is told."""

    RESOLVED = "systemd-resolved"
    DEBIAN = "debian-resolvconf"
    OPENRESOLV = "openresolv"
    DIRECT = "direct"  # nobody: the file is ours


class Flavour(Enum):
    """Which program is called ``resolvconf``."""

    NONE = ""
    DEBIAN = "debian"
    OPEN = "openresolv"


@dataclass(frozen=True, slots=True)
class NetworkManager:
    """A running NetworkManager.

    Attributes:
        version: as it says.
        dns: what it does about DNS: ``systemd-resolved``, ``dnsmasq``, ``default``, ``none`` …
    """

    version: str
    dns: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found on the host.

    Attributes:
        resolv_conf: text of the file as it was before us; ``None`` if there is none.
        hosts: words of the ``hosts:`` line of ``/etc/nsswitch.conf``.
        resolved: systemd-resolved answers.
        manager: NetworkManager, if it runs.
        resolvconf: the program of that name.
    """

    resolv_conf: str | None = None
    hosts: tuple[str, ...] = ()
    resolved: bool = False
    manager: NetworkManager | None = None
    resolvconf: Flavour = Flavour.NONE


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is told.

    Attributes:
        mode: who.
        why: for the log.
        trouble: what is wrong on this host, for its user; empty if nothing.
    """

    mode: Mode
    why: str
    trouble: str = ""


def choose(facts: Facts) -> Choice:
    """Decide."""
    if facts.resolv_conf is None:
        return Choice(Mode.DIRECT, "there is no /etc/resolv.conf")
    match owner(facts.resolv_conf):
        case "systemd-resolved":
            return _resolved(facts)
        case "NetworkManager":
            return _manager(facts)
        case "resolvconf":
            return _resolvconf(facts)
        case _:
            return Choice(Mode.DIRECT, "nobody says in /etc/resolv.conf that it is theirs")


def resolved_is_used(facts: Facts) -> bool:
    """Whether programs ask systemd-resolved, by the stub or by ``nss-resolve``."""
    for service in facts.hosts:
        if service == "resolve":
            return True
        if service == "dns":
            break
    servers = parse(facts.resolv_conf or "").nameservers
    return bool(servers) and all(server == STUB for server in servers)


def _resolved(facts: Facts) -> Choice:
    if not resolved_is_used(facts):
        return Choice(Mode.DIRECT, "the file names systemd-resolved, but nothing asks it")
    if not facts.resolved:
        return Choice(Mode.DIRECT, "the file names systemd-resolved, which does not answer")
    return Choice(Mode.RESOLVED, "systemd-resolved wrote the file", _too_old(facts.manager))


def _manager(facts: Facts) -> Choice:
    if not resolved_is_used(facts) or not facts.resolved:
        return Choice(Mode.DIRECT, "NetworkManager wrote the file, without systemd-resolved")
    if facts.manager is None:
        return Choice(Mode.RESOLVED, "systemd-resolved is used, NetworkManager is not running")
    if facts.manager.dns != "systemd-resolved":
        return Choice(Mode.DIRECT, f"NetworkManager manages DNS by {facts.manager.dns}")
    trouble = _too_old(facts.manager) or (
        "NetworkManager writes /etc/resolv.conf although systemd-resolved is used; make it a link:"
        " ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"
    )
    return Choice(Mode.RESOLVED, "NetworkManager uses systemd-resolved", trouble)


def _resolvconf(facts: Facts) -> Choice:
    if facts.resolved and resolved_is_used(facts):
        why = "resolvconf wrote the file, and it names systemd-resolved alone"
        return Choice(Mode.RESOLVED, why, _too_old(facts.manager))
    match facts.resolvconf:
        case Flavour.DEBIAN:
            return Choice(Mode.DEBIAN, "Debian's resolvconf wrote the file")
        case Flavour.OPEN:
            return Choice(Mode.OPENRESOLV, "openresolv wrote the file")
        case Flavour.NONE:
            return Choice(Mode.DIRECT, "the file names resolvconf, which is not installed")


def _too_old(manager: NetworkManager | None) -> str:
    """Versions 1.26.0 to 1.26.5 take away from systemd-resolved what others told it."""
    if manager is None or manager.dns != "systemd-resolved":
        return ""
    if not re.match(r"1\.26\.[0-5](\D|$)", manager.version):
        return ""
    return (
        f"NetworkManager {manager.version} takes settings away from systemd-resolved;"
        " install 1.26.6 or newer"
    )
