"""Make ``.venv`` and install what is needed.  Standard library only; run by ``make venv``.

Called with ``tools`` it also installs the programs of the integration tests, with ``lab`` those of
the lab, which needs root.  As root it installs missing system packages with the distribution's
package manager; otherwise it prints the one command to run.  When nothing is missing it changes
nothing.  The Makefile has checked that this Python is new enough.
"""

import ctypes.util
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = VENV / ".installed"
TRIED = VENV / ".optional-tools"  # exists once installing them was tried

# What is needed, and its package for apt, dnf, apk and pacman.
PACKAGES = {
    "ip": ("iproute2", "iproute", "iproute2", "iproute2"),
    "nft": ("nftables", "nftables", "nftables", "nftables"),
    "ping": ("iputils-ping", "iputils", "iputils", "iputils"),
    "curl": ("curl", "curl", "curl", "curl"),
    "dig": ("bind9-dnsutils", "bind-utils", "bind-tools", "bind"),
    "dnsmasq": ("dnsmasq-base", "dnsmasq", "dnsmasq", "dnsmasq"),
    "jq": ("jq", "jq", "jq", "jq"),
    "tcpdump": ("tcpdump", "tcpdump", "tcpdump", "tcpdump"),
    "iperf3": ("iperf3", "iperf3", "iperf3", "iperf3"),
    "wg": ("wireguard-tools", "wireguard-tools", "wireguard-tools-wg", "wireguard-tools"),
    "wireguard-go": ("wireguard-go", "", "wireguard-go", "wireguard-go"),
    "miniupnpd": ("miniupnpd-nftables", "", "miniupnpd", "miniupnpd"),
    "iptables": ("iptables", "iptables-nft", "iptables", "iptables-nft"),
    "ufw": ("ufw", "ufw", "ufw", "ufw"),
    "firewalld": ("firewalld", "firewalld", "firewalld", "firewalld"),
    "ethtool": ("ethtool", "ethtool", "ethtool", "ethtool"),
    "chromium": ("chromium", "chromium", "chromium", "chromium"),
    "libIPSec_MB": ("libipsec-mb1", "intel-ipsec-mb", "", "intel-ipsec-mb"),
    "cc": ("gcc libc6-dev", "gcc", "gcc musl-dev", "gcc"),
    "headers": ("python3-dev", "python3-devel", "python3-dev", "python"),
    "venv": ("python3-venv", "python3", "python3", "python"),
}
# The lab is complete without these.
OTHERS = {"iptables", "ufw", "firewalld", "ethtool"}  # whose rules and settings ours live beside
LIBRARY = "libIPSec_MB"  # not a program; a second cipher of the native datapath
OPTIONAL = OTHERS | {"chromium", "iperf3", "wg", "wireguard-go", "miniupnpd", LIBRARY}
COMPILER = {"cc", "headers"}  # only where there is no ready-made package of python-pytun
PYTHON = {"venv"}
TOOLS = PACKAGES.keys() - COMPILER - PYTHON
TESTS_ONLY = OTHERS | {"chromium"}  # the demo needs no browser
MANAGERS = {
    "apt-get": ["apt-get", "install", "-y", "-qq", "--no-install-recommends"],
    "dnf": ["dnf", "install", "-y", "-q"],
    "apk": ["apk", "add", "-q"],
    "pacman": ["pacman", "-S", "--needed", "--noconfirm", "-q"],
}


def say(text: str) -> None:
    """One line of progress."""
    print(f"  {text}", flush=True)  # noqa: T201 - what this script does is its output


def fail(text: str) -> None:
    """The last line: what is wrong and what to do."""
    sys.exit(f"bootstrap: {text}")


def missing(names: Iterable[str]) -> list[str]:
    """Those of these names from ``PACKAGES`` that this machine does not have."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # no sbin for a user on Debian
    gone = []
    for name in PACKAGES:
        if name not in names:
            continue
        if name == "headers":
            here = Path(sysconfig.get_path("include"), "Python.h").exists()
        elif name == LIBRARY:
            here = platform.machine() != "x86_64" or bool(ctypes.util.find_library("IPSec_MB"))
        elif name == "venv":
            here = all(importlib.util.find_spec(module) for module in ("venv", "ensurepip"))
        else:
            here = shutil.which(name, path=path) is not None
        if not here:
            gone.append(name)
    return gone


def install_system(names: list[str]) -> None:
    """Install packages, or say how; optional ones may fail."""
    manager = next((name for name in MANAGERS if shutil.which(name)), None)
    needed = [name for name in names if name not in OPTIONAL]
    if manager is None:
        if needed:
            fail(f"please install: {' '.join(needed)} (no known package manager found)")
        return
    column = list(MANAGERS).index(manager)

    def packages(of: list[str]) -> list[str]:
        return [word for name in of for word in PACKAGES[name][column].split()]

    if os.geteuid() != 0:
        if needed:
            wanted = packages(names)
            remedy = f"sudo {manager} {_verb(manager)} {' '.join(wanted)}"
            fail(f"missing {', '.join(needed)}. Run:\n  {remedy}\nand then again what you ran.")
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    say(f"installing with {manager}: {' '.join(packages(names))}")
    if manager == "apt-get":
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    everything = [*MANAGERS[manager], *packages(names)]
    if subprocess.run(everything, env=environment, check=False).returncode:
        for name in names:  # one that does not exist here must not stop the others
            command = [*MANAGERS[manager], *packages([name])]
            code = subprocess.run(command, env=environment, check=False).returncode
            if code and name not in OPTIONAL:
                fail(f"`{' '.join(command)}` failed; {name} is needed")
    if still := [name for name in missing(names) if name not in OPTIONAL]:
        fail(f"{manager} installed its packages, but there is still no {', '.join(still)} in PATH")


def _verb(manager: str) -> str:
    return {"apk": "add", "pacman": "-S"}.get(manager, "install")


def install_python() -> None:
    """Make the environment and install the project into it, editable."""
    python = VENV / "bin/python"
    moved = STAMP.exists() and STAMP.read_bytes().splitlines()[0] != str(ROOT).encode()
    if moved or not (VENV / "bin/pip").exists() or not python.exists():
        say(f"making {VENV.relative_to(ROOT)} with Python {sys.version.split()[0]}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    say("installing Python packages (half a minute the first time)")
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command += ["-e", f"{ROOT}[test,lint,lab]"]
    code = subprocess.run(command, check=False).returncode
    if code and (gone := missing(COMPILER)):
        say("that did not work; trying again with a C compiler")
        install_system(gone)
        code = subprocess.run(command, check=False).returncode
    if code:
        fail("pip could not install the packages; see its message above")
    STAMP.write_bytes(_fingerprint())


def _fingerprint() -> bytes:
    """What the installation depends on; the first line is the directory."""
    return str(ROOT).encode() + b"\n" + (ROOT / "pyproject.toml").read_bytes()


def main() -> None:
    """Check everything, install what is missing."""
    purpose = (sys.argv[1:] or [""])[0]
    root = os.geteuid() == 0
    if purpose == "lab" and not root:
        fail("the lab makes network namespaces, which needs root: sudo make …")
    # Without root the tests that need these programs are skipped.
    wanted = set(TOOLS) if purpose in {"lab", "tools"} and root else set()
    if purpose == "lab":
        wanted -= TESTS_ONLY
    if TRIED.exists():
        wanted -= OPTIONAL
    if not (VENV / "bin/python").exists():
        wanted |= PYTHON
    if gone := missing(wanted):
        install_system(gone)
    current = (VENV / "bin/python").exists() and STAMP.exists()
    if not current or STAMP.read_bytes() != _fingerprint():
        install_python()
    if wanted & OPTIONAL:
        TRIED.touch()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; run it again to finish")
    except (OSError, subprocess.CalledProcessError) as error:
        fail(str(error))
