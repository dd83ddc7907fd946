"""A subnet router whose kernel does not forward: saying so, and turning it on if that is wished.

Forwarding IPv6 makes Linux ignore router advertisements, so a device that has its default route
from one is told to take them nevertheless.

Source: Linux Documentation/networking/ip-sysctl.rst; tailscale cmd/tailscale/cli/up.go.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.errors import Failure, warn
from tailnet.cli.settings import FORWARD
from tailnet.cli.text import clean
from tailnet.client import questions

_KEPT = Path("etc/sysctl.d/99-tailnet-forwarding.conf")
_HEAD = "# made by: tnet set --enable-ip-forwarding\n"
_IPV4, _IPV6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"
_ADVERTISED = 0x0004_0000  # RTF_ADDRCONF: from a router advertisement
ROOT = Path("/")


def advise(client: LocalClient, given: Mapping[str, str]) -> None:
    """After a change of what is offered, or the flag: what keeps it from working well.

    Raises:
        Failure: forwarding was to be turned on, and cannot be.
    """
    offered = client.prefs().get("AdvertiseRoutes")
    routes = [str(route) for route in offered] if isinstance(offered, list) else []
    v6 = not routes or any(":" in route for route in routes)
    if given.get(FORWARD) == "true":
        enable(v6=v6, root=ROOT)
    elif routes and (problem := client.ask(questions.check_ip_forwarding()).warning):
        warn(f"Warning: {clean(problem)}")
        if _somebody_is_there() and os.geteuid() == 0:
            if click.confirm("Turn it on, now and at each start of this machine?", err=True):
                enable(v6=v6, root=ROOT)
        else:
            warn("or now and at each start with: sudo tnet set --enable-ip-forwarding")
    if not routes:
        return
    if slow := client.ask(questions.check_udp_gro_forwarding()).warning:
        warn(f"Note: {clean(slow)}")


def _somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def enable(*, v6: bool, root: Path = ROOT) -> None:
    """Forward, from now on and after each start; says what it changed.

    Raises:
        Failure: not root, or the system forbids it.
    """
    wanted = settings(v6=v6, root=root)
    file = root / _KEPT
    lines = "".join(f"{name.replace('/', '.')} = {value}\n" for name, value in wanted.items())
    try:
        for name, value in wanted.items():
            (root / "proc/sys" / name).write_text(value)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_HEAD + lines)
    except PermissionError:
        msg = f"only root can turn on forwarding: sudo tnet set --{FORWARD}"
        raise Failure(msg) from None
    except OSError as error:
        msg = f"forwarding cannot be turned on here: {error.filename}: {error.strerror}"
        raise Failure(msg) from None
    warn(f"Forwarding is on, and will be after each start, see /{_KEPT}")


def settings(*, v6: bool, root: Path = ROOT) -> dict[str, str]:
    """Names below ``/proc/sys``, in the order to set them, and values."""
    wanted = {_IPV4: "1"}
    if v6 and (root / "proc/sys" / _IPV6).exists():
        for device in advertised(root):
            wanted[f"net/ipv6/conf/{device}/accept_ra"] = "2"
        wanted[_IPV6] = "1"
    return wanted


def advertised(root: Path = ROOT) -> list[str]:
    """Devices with an IPv6 default route from a router advertisement."""
    try:
        lines = (root / "proc/net/ipv6_route").read_text().splitlines()
    except OSError:
        return []
    rows = [line.split() for line in lines]
    default = ["0" * 32, "00"]
    return sorted({row[9] for row in rows if row[:2] == default and int(row[8], 16) & _ADVERTISED})
