"""What the host is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.linux.hostinfo import (
    cloud,
    describe,
    device_model,
    environment,
    forwarding_problem,
    has_desktop,
    in_container,
    parse_os_release,
)

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


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ("K_REVISION K_CONFIGURATION K_SERVICE PORT", "kn"),
        (
            (
                "AWS_LAMBDA_FUNCTION_NAME AWS_LAMBDA_FUNCTION_VERSION "
                "AWS_LAMBDA_INITIALIZATION_TYPE AWS_LAMBDA_RUNTIME_API"
            ),
            "lm",
        ),
        ("PORT DYNO", "hr"),
        ("APPSVC_RUN_ZIP WEBSITE_STACK WEBSITE_AUTH_AUTO_AAD", "az"),
        ("FLY_APP_NAME FLY_REGION", "fly"),
        ("KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT", "k8s"),
        ("REPL_OWNER REPL_SLUG", "repl"),
        ("SUPERVISOR_TOKEN HASSIO_TOKEN", "haao"),
        ("PORT", ""),
        ("", ""),
    ],
)
def test_hosted_environments_are_recognised(variables: str, code: str) -> None:
    """By variables that must all be there."""
    assert environment(dict.fromkeys(variables.split(), "x")) == code


def test_two_environments_are_told_by_a_value() -> None:
    """Of one variable."""
    assert environment({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}) == "fg"
    assert environment({"AWS_EXECUTION_ENV": "AWS_ECS_EC2"}) == ""
    assert environment({"TS_HOST_ENV": "dde"}) == "dde"


@pytest.mark.parametrize(
    ("path", "text", "model"),
    [
        ("proc/sys/kernel/syno_hw_version", "DS920+\n", "DS920+"),
        ("sys/firmware/devicetree/base/model", "Raspberry Pi 4\0", "Raspberry Pi 4"),
        ("sys/class/dmi/id/product_name", "X" * 999, "X" * 128),
        ("etc/nothing", "", ""),
    ],
)
def test_hardware_has_a_name(tmp_path: Path, path: str, text: str, model: str) -> None:
    """One line of printable characters."""
    write(tmp_path, path, text)
    assert device_model(tmp_path) == describe(tmp_path, {}).device_model == model


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("bios_vendor", "Amazon EC2\n", "aws"),
        ("sys_vendor", "Amazon EC2\n", "aws"),
        ("product_name", "Google Compute Engine\n", "gcp"),
        ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n", "azure"),
        ("sys_vendor", "DigitalOcean\n", "digitalocean"),
        ("sys_vendor", "QEMU\n", ""),
    ],
)
def test_clouds_are_recognised(tmp_path: Path, path: str, text: str, name: str) -> None:
    """By what the firmware says."""
    write(tmp_path, f"sys/class/dmi/id/{path}", text)
    assert cloud(tmp_path) == describe(tmp_path, {}).cloud == name


@pytest.mark.parametrize(
    ("socket", "desktop"),
    [
        ("@/tmp/.X11-unix/X0", True),
        ("/run/user/1000/wayland-0", True),
        ("@/tmp/dbus-abc", True),
        ("/run/systemd/journal/stdout", False),
    ],
)
def test_desktops_are_recognised(tmp_path: Path, socket: str, desktop: bool) -> None:
    """By the sockets of a session with a screen."""
    line = f"0000: 00000002 00000000 00010000 0001 01 1234 {socket}\n"
    write(tmp_path, "proc/net/unix", line)
    assert has_desktop(line) == describe(tmp_path, {}).desktop == desktop


def test_a_subnet_router_must_forward(tmp_path: Path) -> None:
    """Each family that it offers; what to do is said."""
    write(tmp_path, "proc/sys/net/ipv4/ip_forward", "0\n")
    write(tmp_path, "proc/sys/net/ipv6/conf/all/forwarding", "0\n")
    both = forwarding_problem(tmp_path, v4=True, v6=True)
    assert both.endswith("sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    assert forwarding_problem(tmp_path, v4=False, v6=True).endswith(
        "-w net.ipv6.conf.all.forwarding=1"
    )
    assert forwarding_problem(tmp_path, v4=False, v6=False) == ""
    write(tmp_path, "proc/sys/net/ipv4/ip_forward", "1\n")
    assert forwarding_problem(tmp_path, v4=True, v6=False) == ""
    assert forwarding_problem(tmp_path / "none", v4=True, v6=True) == ""
