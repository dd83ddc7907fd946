"""What this host is: what a node tells the control server about itself.

Source: tailscale hostinfo/hostinfo_linux.go; os-release(5).
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container")
_CONTAINER_CGROUPS = ("/docker", "/lxc", "/kubepods", "/libpod", "/containerd")
_MAX_FILE = 1 << 16  # bytes of any of these files that are looked at


@dataclass(frozen=True, slots=True)
class HostDescription:
    """The host.

    Attributes:
        os_version: release of the kernel.
        distro: ``ID`` of os-release, such as ``debian``; empty where unknown, as are the next two.
        distro_version: ``VERSION_ID``, such as ``12``.
        distro_code_name: ``VERSION_CODENAME``, such as ``bookworm``.
        machine: as of uname, such as ``x86_64``.
        container: this runs in a container.
    """

    os_version: str
    distro: str
    distro_version: str
    distro_code_name: str
    machine: str
    container: bool


def describe(root: Path = Path("/")) -> HostDescription:
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
    )


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


def _read(path: Path) -> str:
    """The file's text, or nothing where it cannot be read: pid 1's environment is root's."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE)
    except OSError:
        return ""
