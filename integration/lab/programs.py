"""Debian's programs that manage names, each for one host of a lab, unpacked and never installed.

As packages they exclude each other.  ``apt-get download`` fetches them once, into ``.venv/.debs``;
a host sees their files laid over ``/usr``, and has its own copy of their ``/etc``.
"""

import os
import shutil
import subprocess
from pathlib import Path

from integration.lab.host import Host
from integration.lab.private import add_mount, root_of
from integration.lab.process import Process
from integration.lab.waiting import until

CACHE = Path(__file__).resolve().parents[2] / ".venv" / ".debs"
_USER = 998  # number of systemd-resolve
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_type="method_call"/><allow receive_type="signal"/>
<allow receive_type="method_return"/><allow receive_type="error"/></policy></busconfig>
"""


class NotThere(Exception):
    """A package cannot be had here; the text says why."""


def _unpacked(package: str) -> Path:
    """Where its files are.

    Raises:
        NotThere: this is no Debian, or nothing can be downloaded.
    """
    where = CACHE / package
    if where.is_dir():
        return where
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        msg = f"{package}: this system has no apt-get"
        raise NotThere(msg)
    fresh = CACHE / f"{package}.fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    done = subprocess.run(["apt-get", "download", package], cwd=fresh, check=False, timeout=60)
    debs = list(fresh.glob("*.deb"))
    if done.returncode or not debs:
        msg = f"{package} cannot be downloaded"
        raise NotThere(msg)
    subprocess.run(["dpkg-deb", "-x", debs[0], fresh], check=True)
    (fresh / "version").write_text(debs[0].name.split("_")[1])
    for name in ("bin", "sbin", "lib"):  # where /usr is merged, as everywhere today
        if (fresh / name).is_dir():
            shutil.copytree(fresh / name, fresh / "usr" / name, symlinks=True, dirs_exist_ok=True)
    fresh.rename(where)
    return where


def install(host: Host, *packages: str) -> None:
    """Let the programs that ``host`` starts from now on find these."""
    trees = [_unpacked(package) for package in packages]
    root = root_of(host.namespace)
    assert root is not None
    for tree in trees:
        if (tree / "etc").is_dir():
            shutil.copytree(tree / "etc", root / "etc", symlinks=True, dirs_exist_ok=True)
    lower = ":".join([*(str(tree / "usr") for tree in trees), "/usr"])
    add_mount(host.namespace, f"-t overlay overlay -o lowerdir={lower} /usr")


def start_bus(host: Host) -> None:
    """A system bus of the host's own, on which everybody may do everything."""
    file = host.directory / "bus.conf"
    file.write_text(BUS)
    host.spawn("bus", "dbus-daemon", f"--config-file={file}", "--nofork")
    until(
        "the bus",
        lambda: host.exec("test", "-S", "/run/dbus/system_bus_socket", check=False).returncode == 0,
        10,
    )


def start_resolved(host: Host, server: str, domain: str) -> Process:
    """systemd-resolved, told of the LAN's server by its link, as a DHCP client would."""
    root = root_of(host.namespace)
    assert root is not None
    with (root / "etc/passwd").open("a") as users:
        users.write(f"systemd-resolve:x:{_USER}:{_USER}::/:/usr/sbin/nologin\n")
    with (root / "etc/group").open("a") as groups:
        groups.write(f"systemd-resolve:x:{_USER}:\n")
    runtime = root / "run/systemd/resolve"
    runtime.mkdir(parents=True)
    runtime.chmod(0o755)
    os.chown(runtime, _USER, _USER)
    conf = root / "etc/resolv.conf"
    conf.unlink()
    conf.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    process = host.spawn("resolved", "/usr/lib/systemd/systemd-resolved")
    ready = lambda: host.exec("resolvectl", "status", check=False).returncode == 0  # noqa: E731
    until("systemd-resolved", ready, 10)
    host.exec("resolvectl", "dns", "eth0", server)
    host.exec("resolvectl", "domain", "eth0", domain)
    return process
