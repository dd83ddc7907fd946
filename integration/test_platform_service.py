"""The systemd units: well formed, hardened, and the privileges of the main one are enough."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from integration.conftest import cannot
from tests.support.platform_netns import private_network

from tailnet.cli.services.catalogue import Kind, service

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "systemd/tailnetd.service"
PAGE = ROOT / "docs/platform.md"
PROGRAM = re.compile(r"/usr/bin/(tailnetd|tnet)")
AN_ORDINARY_USER = "65534"
# As a system sets it up; in some containers only root may open the device.
DEVICE = 'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"'
WORK = """
import asyncio, socket
from ipaddress import ip_interface, ip_network
from tailnet.platform.interface import RouterConfig
from tailnet.platform.linux.bypass import LinuxBypass
from tailnet.platform.linux.privileges import own_privileges
from tailnet.platform.linux.residue import cleanup
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import open_tun

async def work():
    assert own_privileges().missing_for_tun is None
    tun = open_tun("tailnet0")
    router = LinuxRouter("tailnet0")
    await router.up()
    addrs = frozenset({ip_interface("100.64.0.1/32"), ip_interface("fd7a:115c:a1e0::1/128")})
    routes = frozenset({ip_network("0.0.0.0/0"), ip_network("::/0")})
    await router.apply(RouterConfig(addrs, routes, frozenset({ip_network("10.0.0.0/8")})))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        bypass = LinuxBypass("tailnet0")
        bypass.mark(sock)
        assert bypass.uses_mark
    tun.close()
    assert len(await cleanup("tailnet0")) == 9

asyncio.run(work())
"""


def directive(name: str) -> list[str]:
    """The words of a directive."""
    found = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert len(found) == 1
    return str(found[0]).split()


@pytest.mark.netns
@pytest.mark.parametrize("user", ["0", AN_ORDINARY_USER])
def test_privileges_of_the_unit_are_enough(user: str) -> None:
    """Device, routes, rules, marks and clean-up; as root, and as nobody with the same."""
    if not shutil.which("setpriv"):
        cannot("needs setpriv")
    names = [f"+{c.removeprefix('CAP_').lower()}" for c in directive("CapabilityBoundingSet")]
    caps = ",".join(["-all", *names])
    identity = [f"--reuid={user}", "--clear-groups"] if user != "0" else []
    sets = [f"--inh-caps={caps}", f"--ambient-caps={caps}", f"--bounding-set={caps}"]
    python = [sys.executable, "-c", WORK]
    with private_network():
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", DEVICE, "sh", "setpriv", *identity, *sets, *python],
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
    if user != "0" and "Permission denied" in done.stderr and "setpriv:" in done.stderr:
        cannot("the interpreter is not readable for other users")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder of units as they are installed, with programs that exist."""
    for kind in Kind:
        for file in service(kind, Path("/usr/bin"), Path("/root")).files:
            if file.path.suffix in {".service", ".socket", ".target"}:
                name = "tailnetd-user.service" if kind is Kind.USER else file.path.name
                (tmp_path / name).write_text(PROGRAM.sub("/bin/true", file.text))
    return tmp_path


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The word of systemd."""
    if not shutil.which("systemd-analyze"):
        cannot("needs systemd-analyze")
    command = ["systemd-analyze", "--no-pager", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)


def test_units_are_well_formed(units: Path) -> None:
    """Every one, together."""
    done = analyze("verify", "--man=no", *units.iterdir())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("tailnetd", 2.5),
        ("tailnetd-userspace", 1.5),
        ("tailnetd-guard", 2.5),
        ("tailnetd-wait-online", 1.5),
        ("tailnetd-hook@", 1.6),
    ],
)
def test_units_expose_little(units: Path, unit: str, most: float) -> None:
    """By the count of ``systemd-analyze security``, which goes to 10."""
    done = analyze("security", "--offline=yes", units / f"{unit}.service")
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= most


def short(name: str) -> str:
    """``CapabilityBoundingSet=~CAP_NET_(RAW|…)`` is ``CAP_NET_RAW``, ``User=/…`` is ``User``."""
    return re.sub(r"^\w+=~|\(", "", name).partition("=")[0].partition("|")[0]


@pytest.mark.parametrize(("unit", "column"), [("tailnetd", 1), ("tailnetd-userspace", 2)])
def test_whatever_exposes_is_in_the_table_of_the_page(units: Path, unit: str, column: int) -> None:
    """Each thing that counts, and how much: what is not explained there is not to remain."""
    path = units / f"{unit}.service"
    done = analyze("security", "--offline=yes", "--json=short", path)
    counted = {
        short(each["name"]): float(each["exposure"])
        for each in json.loads(done.stdout)
        if float(each["exposure"] or 0)
    }
    lines = PAGE.read_text().partition("| counted |")[2].splitlines()[2:]
    explained: dict[str, str] = {}
    for line in lines[: lines.index("")]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"\b[A-Z]\w+", cells[0])
        much = sum(counted.get(name, 0) for name in names)
        assert (f"{much:.1f}" if much else "–") == cells[column], line
        assert cells[3]
        explained |= dict.fromkeys(names, cells[3])
    assert set(counted) <= set(explained)


def test_unit_cleans_up_and_notifies() -> None:
    """What main relies on."""
    assert directive("Type") == ["notify"]
    assert directive("ExecStopPost")[-1] == "--cleanup"
    assert directive("StateDirectoryMode") == ["0700"]
