"""What this host is: what a node tells the control server about itself.

Source: tailscale hostinfo/hostinfo.go (GetEnvType), hostinfo_linux.go, util/cloudenv/cloudenv.go;
os-release(5).
"""

import os
import shlex
import socket
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import psutil

from tailnet.platform.system import HostDescription

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container")
_CONTAINER_CGROUPS = ("/docker", "/lxc", "/kubepods", "/libpod", "/containerd")
_MODELS = (
    "proc/sys/kernel/syno_hw_version",
    "sys/firmware/devicetree/base/model",
    "sys/class/dmi/id/product_name",
)
_MAX_FILE = 1 << 16  # bytes of any of these files that are looked at
_MAX_MODEL = 128  # characters
_DESKTOP_SOCKETS = ("/.X11-unix/X", "/wayland-", "@/tmp/dbus-", "/dbus-session")

# Variables that all have to be set, by the code of the environment they mean.
_ENVIRONMENTS = (
    ("kn", ("K_REVISION", "K_CONFIGURATION", "K_SERVICE", "PORT")),
    (
        "lm",
        (
            "AWS_LAMBDA_FUNCTION_NAME",
            "AWS_LAMBDA_FUNCTION_VERSION",
            "AWS_LAMBDA_INITIALIZATION_TYPE",
            "AWS_LAMBDA_RUNTIME_API",
        ),
    ),
    ("hr", ("PORT", "DYNO")),
    ("az", ("APPSVC_RUN_ZIP", "WEBSITE_STACK", "WEBSITE_AUTH_AUTO_AAD")),
    ("fly", ("FLY_APP_NAME", "FLY_REGION")),
    ("k8s", ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")),
    ("repl", ("REPL_OWNER", "REPL_SLUG")),
    ("haao", ("SUPERVISOR_TOKEN", "HASSIO_TOKEN")),
)
# File, what it contains, and the cloud that this means.
_CLOUDS = (
    ("sys/class/dmi/id/bios_vendor", "Amazon EC2", "aws"),
    ("sys/class/dmi/id/sys_vendor", "Amazon EC2", "aws"),
    ("sys/class/dmi/id/product_name", "Google Compute Engine", "gcp"),
    ("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure"),
    ("sys/class/dmi/id/sys_vendor", "DigitalOcean", "digitalocean"),
)


def describe(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> HostDescription:
    """Read it from the system; ``root`` is where its files are.  Never fails."""
    release = parse_os_release(next(filter(None, (_read(root / p) for p in _OS_RELEASE)), ""))
    kernel = os.uname()
    return HostDescription(
        os_version=kernel.release,
        distro=release.get("ID", ""),
        distro_version=release.get("VERSION_ID", ""),
        distro_code_name=release.get("VERSION_CODENAME", ""),
        machine=kernel.machine,
        container=in_container(root),
        env=environment(environ),
        device_model=device_model(root),
        cloud=cloud(root),
        desktop=has_desktop(_read(root / "proc/net/unix")),
    )


def environment(environ: Mapping[str, str]) -> str:
    """The hosted environment that these variables mean; empty for none."""
    if environ.get("AWS_EXECUTION_ENV") == "AWS_ECS_FARGATE":
        return "fg"
    if environ.get("TS_HOST_ENV") == "dde":
        return "dde"
    return next(
        (code for code, names in _ENVIRONMENTS if all(environ.get(name) for name in names)), ""
    )


def device_model(root: Path) -> str:
    """What the hardware calls itself, on one line."""
    for path in _MODELS:
        text = "".join(c for c in _read(root / path) if c.isprintable()).strip()
        if text:
            return text[:_MAX_MODEL]
    return ""


def cloud(root: Path) -> str:
    """Whose virtual machine this is; empty for nobody's that is known."""
    for path, mark, name in _CLOUDS:
        if mark in _read(root / path):
            return name
    return ""


def has_desktop(sockets: str) -> bool:
    """Whether ``/proc/net/unix`` shows a session with a screen."""
    return any(mark in sockets for mark in _DESKTOP_SOCKETS)


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of an os-release file; lines that are none are left out."""
    fields = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:  # an open quote
            continue
        fields[key] = words[0] if words else ""
    return fields


def in_container(root: Path = Path("/")) -> bool:
    """Whether this is a container: Docker, Podman, LXC, Kubernetes, systemd-nspawn."""
    if any((root / mark).exists() for mark in _CONTAINER_MARKS):
        return True
    settings = _read(root / "proc/1/environ").split("\0")
    if any(setting.startswith("container=") for setting in settings):
        return True
    cgroups = _read(root / "proc/1/cgroup")
    return any(name in cgroups for name in _CONTAINER_CGROUPS)


def forwarding_problem(root: Path, *, v4: bool, v6: bool) -> str:
    """Why a subnet router of these families does not work; empty if it does.

    A file that cannot be read says nothing: the kernel then lacks the family.
    """
    off = [
        f"net.{name}=1"
        for wanted, path, name in (
            (v4, "proc/sys/net/ipv4/ip_forward", "ipv4.ip_forward"),
            (v6, "proc/sys/net/ipv6/conf/all/forwarding", "ipv6.conf.all.forwarding"),
        )
        if wanted and _read(root / path).strip() == "0"
    ]
    if not off:
        return ""
    return (
        "this machine does not forward packets, so its subnet routes do not work; "
        f"turn it on with: sysctl -w {' '.join(off)}"
    )


def _read(path: Path) -> str:
    """The file's text, or nothing where it cannot be read: pid 1's environment is root's."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE)
    except OSError:
        return ""


def local_networks(*, without: str = "") -> tuple[IPv4Network | IPv6Network, ...]:
    """The prefixes of the links of the namespace of the calling thread, but for one device's."""
    found: dict[IPv4Network | IPv6Network, None] = {}
    for name, addrs in psutil.net_if_addrs().items():
        for addr in addrs if name != without else ():
            if addr.family in {socket.AF_INET, socket.AF_INET6} and addr.netmask:
                mask = ip_address(addr.netmask)
                length = int(mask).bit_count()
                text = f"{addr.address.partition('%')[0]}/{length}"
                found[ip_network(text, strict=False)] = None
    return tuple(found)
