"""What a machine of the lab writes to ``/etc`` and ``/run`` never reaches the real ones.

::

    h1 ── bridge ── h2
"""

from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.lab import Lab
from integration.lab.private import root_of
from integration.lab.topology import flat

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]

DIRECTORIES = ("/etc", "/run")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two machines without a daemon."""
    return make_lab(flat("h1", "h2"))


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_what_one_writes_only_it_sees(lab: Lab, directory: str) -> None:
    """The next program too, but neither the other machine nor we."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    file = Path(directory, lab.directory.name)
    one.exec("sh", "-c", f"echo mine >{file}")
    assert one.exec("cat", file).stdout == "mine\n"
    assert two.exec("cat", file, check=False).returncode != 0
    assert not file.exists()
    one.exec("rm", file)


def test_resolv_conf_is_replaced_and_removed_without_touching_ours(lab: Lab) -> None:
    """By renaming over it, in place, and by unlinking it: all that a daemon may do to it."""
    ours = Path("/etc/resolv.conf")
    before = ours.stat(), ours.read_bytes(), sorted(p.name for p in Path("/etc").iterdir())
    one = lab.hosts["h1"]
    one.exec("sh", "-c", "echo '# new' >/etc/new && mv /etc/new /etc/resolv.conf")
    assert one.exec("cat", "/etc/resolv.conf").stdout == "# new\n"
    one.exec("sh", "-c", "echo '# more' >>/etc/resolv.conf")
    one.exec("rm", "/etc/resolv.conf")
    one.exec("touch", "/etc/resolv.conf")
    after = ours.stat(), ours.read_bytes(), sorted(p.name for p in Path("/etc").iterdir())
    assert (after[1:], after[0].st_mtime_ns) == (before[1:], before[0].st_mtime_ns)


def test_no_bus_and_no_socket_of_this_machine_is_reachable(lab: Lab) -> None:
    """Or a daemon under test could tell this machine's systemd-resolved."""
    assert lab.hosts["h1"].exec("ls", "/run").stdout.split() == ["dbus", "lock"]
    assert lab.hosts["h1"].exec("ls", "/run/dbus").stdout == ""


def test_a_daemon_starts_nowhere_else(lab: Lab) -> None:
    """Each has its own directory, which its mounts are of."""
    for host in lab.hosts.values():
        root = root_of(host.namespace)
        assert root is not None
        mounts = host.exec("cat", "/proc/self/mountinfo").stdout
        for directory in DIRECTORIES:
            assert f"{root.name}{directory} {directory} " in mounts
