"""The Debian package: made, installed, used, removed and purged.

Over a copy of this system without a service manager, and under a real systemd.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.config import AUTH_KEY
from integration.lab.lab import ROOT
from integration.lab.process import run
from integration.lab.systemd import Systemd, why_no_systemd
from integration.lab.topology import flat
from integration.lab.waiting import until
from integration.package.deb import build

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(400)]

PYTHON = "/usr/bin/python3"
# What is written goes to memory; the real system is below, and stays as it is.
OVER = """set -e
mount -t tmpfs tmpfs "$0"
mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
mount --rbind /proc "$0/root/proc"
mount --rbind /dev "$0/root/dev"
mount -t tmpfs tmpfs "$0/root/run"
mount -t tmpfs tmpfs "$0/root/var/lib/private" 2>/dev/null || true
cp "$1" "$0/root/tailnet.deb"
exec chroot "$0/root" sh -ec "$2"
"""
USE = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LANG=C.UTF-8
exec 2>&1
dpkg -i /tailnet.deb
test "$(readlink -f /usr/bin/tnet)" = /opt/tailnet/bin/tnet
man -w tnet-up tailnetd
bash -c '. /usr/share/bash-completion/completions/tnet && complete -p tnet'
tnet completion fish | cmp - /usr/share/fish/vendor_completions.d/tnet.fish
tailnetd --version
tailnetd &
until [ -S /run/tailnetd/tailnetd.sock ]; do sleep 0.1; done
tnet up @UP@
tnet wait
ping -c1 -W1 @PEER@ || ping -c3 -W2 @PEER@
kill $!
wait $!
dpkg -r tailnet
test ! -e /usr/bin/tnet
test ! -e /opt/tailnet
test -e /etc/default/tailnetd
test -s /var/lib/tailnetd/tailnetd.state
dpkg -P tailnet
test ! -e /etc/default/tailnetd
test ! -e /var/lib/tailnetd
test -z "$(find /etc /usr /var /opt -xdev -name '*tailnetd*' -newer /tailnet.deb)"
echo all well
"""


# The machine's /usr, /opt and packages are its own from here on; its units are where the package
# puts them.
OWN = """set -e
mkdir -p /run/over/upper /run/over/work
mount -t overlay overlay -o lowerdir=/usr,upperdir=/run/over/upper,workdir=/run/over/work /usr
mount -t tmpfs -o mode=755 tmpfs /opt
mount --bind /run/units /usr/lib/systemd/system
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as ``make deb`` does."""
    if not os.environ.get("TEST_DEB"):
        pytest.skip("takes two minutes; make test-deb runs it")
    if not shutil.which("dpkg-deb") or not shutil.which("cargo"):
        pytest.skip("needs dpkg-deb and cargo")
    new_enough = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run([PYTHON, "-c", new_enough], check=False).returncode:
        pytest.skip("the distribution's Python is older than 3.11")
    work = tmp_path_factory.mktemp("deb")
    for source in (ROOT, ROOT / "agent/native"):
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
        run([*pip, "-w", work / "wheels", source], timeout=300)
    return build(PYTHON, work / "wheels", work / "root", work, "none")


def test_it_installs_works_and_goes(package: Path, make_lab: MakeLab, tmp_path: Path) -> None:
    """A peer answers to a daemon of the package, and nothing is left of it in the end."""
    lab = make_lab(flat("h1", "h2"))
    lab.join("h2")
    host, other = lab.hosts["h1"], lab.hosts["h2"]
    up = " ".join(host.up_arguments(AUTH_KEY)[1:])
    use = USE.replace("@UP@", up).replace("@PEER@", str(other.ipv4))
    command = ["unshare", "--mount", "sh", "-c", OVER, str(tmp_path), str(package), use]
    done = host.exec(*command, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "moved by the native datapath" in done.stdout
    assert done.stdout.endswith("all well\n")


def test_under_systemd_installing_starts_it_and_removing_takes_all_back(
    package: Path, make_lab: MakeLab
) -> None:
    """An upgrade starts the new one, as the same node; the kill switch does not outlive it."""
    if (why := why_no_systemd()) is not None:
        cannot(why)
    lab = make_lab(flat("h1", "h2"))
    lab.join("h2")
    host, other = lab.hosts["h1"], lab.hosts["h2"]
    machine = Systemd(host)
    shutil.copytree("/var/lib/dpkg", machine.lib / "dpkg")
    shutil.copyfile(package, machine.lib / "tailnet.deb")
    before = host.exec("nft", "list", "ruleset").stdout + host.exec("ip", "rule").stdout

    def status() -> str:
        return machine.show("tailnetd", "StatusText")

    try:
        machine.boot()
        machine.run("sh", "-c", OWN)
        machine.run("dpkg", "-i", "/var/lib/tailnet.deb")
        assert machine.show("tailnetd", "UnitFileState") == "enabled"
        assert status() == "Needs login: tnet up"
        machine.run("/usr/bin/tnet", *host.up_arguments(AUTH_KEY))
        address, pid = machine.run("/usr/bin/tnet", "ip"), machine.show("tailnetd", "MainPID")
        machine.systemctl("start", "tailnet-online.target")
        machine.run("dpkg", "-i", "/var/lib/tailnet.deb")
        assert machine.show("tailnetd", "MainPID") not in {pid, "0"}
        until("it to be connected", lambda: status().startswith("Connected;"), 30)
        assert machine.run("/usr/bin/tnet", "ip") == address
        ping = ("ping", "-c1", "-W1", str(other.ipv4))
        until("an answer", lambda: "1 received" in machine.run(*ping, check=False), 20)
        machine.run("/usr/bin/tnet", "set", "--kill-switch")
        until("it", lambda: "tailnetd-guard" in machine.run("nft", "list", "ruleset"), 10)
        machine.run("dpkg", "-r", "tailnet")
        assert machine.show("tailnetd", "LoadState") == "not-found"
        assert machine.run("find", "/etc/systemd", "-name", "tailnet*") == ""
        after = host.exec("nft", "list", "ruleset").stdout + host.exec("ip", "rule").stdout
        assert after == before
        machine.run("dpkg", "-P", "tailnet")
        assert not (machine.lib / "tailnetd").exists()
    finally:
        machine.close()
