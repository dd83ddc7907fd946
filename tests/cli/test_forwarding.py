"""Turning on the kernel's forwarding, and what is said where that is not wished."""

from pathlib import Path

import pytest
from tests.support.tnet import Daemon

from tailnet.cli import forwarding
from tailnet.cli.errors import Failure

ROUTE = "0" * 32 + " 00 " + "0" * 32 + " 00 fe80{:028x} 00000400 00000001 00000000 {:08x}     {}\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that does not forward; ``wlan0`` heard of its router, ``eth0`` was told."""
    root = tmp_path / "root"
    for name in ("net/ipv4", "net/ipv6/conf/all", "net/ipv6/conf/eth0", "net/ipv6/conf/wlan0"):
        (root / "proc/sys" / name).mkdir(parents=True)
    for name, value in {
        "ipv4/ip_forward": "0",
        "ipv6/conf/all/forwarding": "0",
        "ipv6/conf/eth0/accept_ra": "1",
        "ipv6/conf/wlan0/accept_ra": "1",
    }.items():
        (root / "proc/sys/net" / name).write_text(value)
    (root / "proc/net").mkdir()
    rows = ROUTE.format(1, 0x00450003, "wlan0") + ROUTE.format(2, 0x3, "eth0")
    (root / "proc/net/ipv6_route").write_text(rows)
    monkeypatch.setattr(forwarding, "ROOT", root)
    return root


def setting(root: Path, name: str) -> str:
    """Of the kernel."""
    return (root / "proc/sys/net" / name).read_text()


def test_it_is_turned_on_now_and_for_good_and_the_way_out_stays(root: Path) -> None:
    """A device that has its IPv6 default route by advertisement goes on to take them."""
    forwarding.enable(v6=True, root=root)
    assert setting(root, "ipv4/ip_forward") == setting(root, "ipv6/conf/all/forwarding") == "1"
    assert setting(root, "ipv6/conf/wlan0/accept_ra") == "2"
    assert setting(root, "ipv6/conf/eth0/accept_ra") == "1"
    assert (root / "etc/sysctl.d/99-tailnet-forwarding.conf").read_text().splitlines() == [
        "# made by: tnet set --enable-ip-forwarding",
        "net.ipv4.ip_forward = 1",
        "net.ipv6.conf.wlan0.accept_ra = 2",
        "net.ipv6.conf.all.forwarding = 1",
    ]


def test_ipv6_is_left_alone_where_nothing_of_it_is_offered(root: Path) -> None:
    """Or does not exist."""
    forwarding.enable(v6=False, root=root)
    assert setting(root, "ipv6/conf/all/forwarding") == "0"
    (root / "proc/sys/net/ipv6/conf/all/forwarding").unlink()
    assert forwarding.settings(v6=True, root=root) == {"net/ipv4/ip_forward": "1"}


def test_a_system_that_forbids_it_is_named(root: Path) -> None:
    """A container, for example."""
    (root / "proc/sys/net/ipv4/ip_forward").unlink()
    (root / "proc/sys/net/ipv4").rmdir()
    with pytest.raises(Failure, match=r"ip_forward: No such file"):
        forwarding.enable(v6=False, root=root)


@pytest.mark.parametrize("more", [("set",), ("up", "--reset")])
def test_what_is_missing_is_said_and_nothing_is_done(
    daemon: Daemon, root: Path, more: tuple[str, ...]
) -> None:
    """With how to have it done; nobody is asked where nobody can answer."""
    daemon.backend.not_forwarding = "this machine does not forward packets"
    daemon.backend.slow_udp = "ethtool -K eth0 rx-udp-gro-forwarding on"
    done = daemon.run(*more, "--advertise-routes=10.0.0.0/24")
    assert done.exit_code == 0, done.output
    assert "Warning: this machine does not forward packets" in done.output
    assert "sudo tnet set --enable-ip-forwarding" in done.output
    assert "Note: ethtool -K eth0" in done.output
    assert setting(root, "ipv4/ip_forward") == "0"
    assert "Warning" not in daemon.run("set", "--hostname=a").output
    assert daemon.run("set", "--advertise-routes=").output == ""


def test_where_somebody_can_answer_root_is_asked(
    daemon: Daemon, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No is the default."""
    daemon.backend.not_forwarding = "this machine does not forward packets"
    monkeypatch.setattr(forwarding, "_somebody_is_there", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for answer, value in (("\n", "0"), ("n\n", "0"), ("y\n", "1")):
        done = daemon.run("set", "--advertise-exit-node", answer=answer)
        assert "at each start of this machine? [y/N]" in done.output
        assert setting(root, "ipv4/ip_forward") == value


def test_the_flag_alone_is_enough(daemon: Daemon, root: Path) -> None:
    """No pref is changed."""
    done = daemon.run("set", "--enable-ip-forwarding")
    assert done.exit_code == 0, done.output
    assert "Forwarding is on" in done.output
    assert setting(root, "ipv4/ip_forward") == "1"
    assert not [call for call in daemon.backend.calls if call[0] == "edit"]


@pytest.mark.parametrize("more", [("set",), ("up", "--reset")])
@pytest.mark.parametrize(("mode", "said"), [("off", "masquerade"), ("nodivert", "ts-postrouting")])
def test_what_a_netfilter_mode_leaves_to_the_user_is_said(
    daemon: Daemon, more: tuple[str, ...], mode: str, said: str
) -> None:
    """Of the usual one there is nothing to say."""
    done = daemon.run(*more, f"--netfilter-mode={mode}")
    assert f"Note: netfilter mode {mode}" in done.stderr
    assert said in done.stderr
    assert "netfilter" not in daemon.run(*more, "--netfilter-mode=on").stderr
