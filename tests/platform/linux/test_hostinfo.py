"""What the host is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.linux.hostinfo import describe, in_container, parse_os_release

DEBIAN = """\
# a comment
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
ID=debian

VERSION_ID="12"
VERSION_CODENAME='bookworm'
"""


def write(root: Path, path: str, text: str) -> None:
    """A file of the host."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_distribution_is_described(tmp_path: Path) -> None:
    """From os-release."""
    write(tmp_path, "etc/os-release", DEBIAN)
    host = describe(tmp_path)
    assert (host.distro, host.distro_version, host.distro_code_name) == ("debian", "12", "bookworm")
    assert host.machine
    assert host.os_version
    assert not host.container


def test_vendors_file_is_the_second_choice(tmp_path: Path) -> None:
    """As os-release(5) says."""
    write(tmp_path, "usr/lib/os-release", "ID=alpine")
    assert describe(tmp_path).distro == "alpine"


def test_unknown_host_is_described_as_empty(tmp_path: Path) -> None:
    """Nothing fails."""
    assert describe(tmp_path).distro == ""


@given(st.text(max_size=200))
def test_any_os_release_is_read(text: str) -> None:
    """Whatever is in it."""
    assert all(isinstance(v, str) for v in parse_os_release(text).values())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("run/systemd/container", "systemd-nspawn"),
        ("proc/1/environ", "PATH=/bin\0container=lxc\0"),
        ("proc/1/cgroup", "12:cpu:/docker/0123\n"),
    ],
)
def test_container_is_recognised(tmp_path: Path, path: str, text: str) -> None:
    """By any of its marks."""
    assert not in_container(tmp_path)
    write(tmp_path, path, text)
    assert in_container(tmp_path)


def test_plain_host_is_no_container(tmp_path: Path) -> None:
    """Whatever runs on it."""
    write(tmp_path, "proc/1/environ", "PATH=/bin\0nocontainer=1\0")
    write(tmp_path, "proc/1/cgroup", "0::/init.scope\n")
    assert not in_container(tmp_path)
