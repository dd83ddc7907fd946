"""The systemd unit: well formed, and its privileges are enough."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.platform_netns import private_network

UNIT = Path(__file__).parents[1] / "systemd" / "tailnetd.service"
AN_ORDINARY_USER = "65534"
# As a system sets it up; in some containers only root may open the device.
DEVICE = 'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"'
WORK = """
import asyncio, socket
from ipaddress import ip_interface, ip_network
from tailnet.platform.interface import RouterConfig
from tailnet.platform.linux.bypass import LinuxBypass
from tailnet.platform.linux.privileges import own_privileges
from tailnet.platform.linux.router import LinuxRouter, cleanup
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
        pytest.skip("needs setpriv")
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
        pytest.skip("the interpreter is not readable for other users")
    assert done.returncode == 0, done.stderr


def test_unit_is_well_formed(tmp_path: Path) -> None:
    """By the word of systemd."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "tailnetd.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/tailnetd", "/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_cleans_up_and_notifies() -> None:
    """What main relies on."""
    assert directive("Type") == ["notify"]
    assert directive("ExecStopPost")[-1] == "--cleanup"
    assert directive("StateDirectoryMode") == ["0700"]
