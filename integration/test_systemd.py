"""The units under a real systemd: started, watched, killed, restarted, booted with the guard."""

import json
import os
import re
import stat
import sys
from collections.abc import Iterator

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.config import AUTH_KEY
from integration.lab.host import BIN, UP_TIMEOUT, Host
from integration.lab.lab import ROOT
from integration.lab.process import run
from integration.lab.systemd import Systemd, why_no_systemd
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

SOCKET = "/run/tailnetd/tailnetd.sock"
HERE = "/run/bin"  # where a unit of the sandbox sees the programs, wherever the tests are
# Where a sandbox has an empty /tmp, /home and /root, the tests' tailnetd must be seen nevertheless.
SEEN = f"[Service]\nProtectHome=tmpfs\nBindReadOnlyPaths={ROOT} {sys.base_prefix}\n"
# A Python in root's home is in an empty home that anybody may enter.
OPENED = """
mkdir -p /run/python && mount --bind "$0" /run/python && mount -t tmpfs -o mode=755 tmpfs /root
mkdir -p "$0" && mount --bind /run/python "$0"
"""


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> tuple[Host, Host]:
    """One with systemd, and one for it to talk to."""
    if (why := why_no_systemd()) is not None:
        cannot(why)
    lab = make_lab(flat("h1", "h2"))
    lab.join("h2")
    return lab.hosts["h1"], lab.hosts["h2"]


@pytest.fixture(scope="module")
def systemd(hosts: tuple[Host, Host]) -> Iterator[Systemd]:
    """Running, with what ``tnet install`` writes."""
    machine = Systemd(hosts[0])
    try:
        install(machine)
        yield machine.boot()
    finally:
        machine.close()


def install(machine: Systemd, *flags: str) -> None:
    """The files that make a service of the tests' tailnetd."""
    run([BIN / "tnet", "install", f"--root={machine.etc.parent}", *flags])
    for unit in (
        "tailnetd",
        "tailnetd-userspace",
        "tailnetd-guard",
        "tailnetd-wait-online",
        "tailnetd-hook@",
    ):
        machine.drop_in(f"{unit}.service", SEEN)


def tnet(machine: Systemd, *words: str) -> str:
    """Run ``tnet`` there."""
    return machine.run(str(BIN / "tnet"), f"--socket={SOCKET}", *words)


def status(machine: Systemd) -> str:
    """What the service says of itself."""
    return machine.show("tailnetd", "StatusText")


def wait_connected(machine: Systemd) -> None:
    """Until it says so."""
    until("tailnetd to be connected", lambda: status(machine).startswith("Connected;"), UP_TIMEOUT)


def answers(machine: Systemd, other: Host) -> bool:
    """To one ping, by the operating system."""
    return "1 received" in machine.run("ping", "-c1", "-W1", str(other.ipv4), check=False)


def main_pid(machine: Systemd) -> str:
    """As process 1 sees it."""
    return machine.show("tailnetd", "MainPID")


def rules(machine: Systemd) -> str:
    """Policy rules and nftables."""
    return (
        machine.run("ip", "rule")
        + machine.run("ip", "-6", "rule")
        + machine.run("nft", "list", "ruleset")
    )


def test_it_starts_joins_and_stops_and_leaves_nothing(
    systemd: Systemd, hosts: tuple[Host, Host]
) -> None:
    """``start`` returns once ``tnet`` can talk to it; the target once the tailnet is reachable."""
    before = rules(systemd)
    systemd.systemctl("start", "tailnetd")
    assert status(systemd) == "Needs login: tnet up"
    up = hosts[0].up_arguments(AUTH_KEY)
    tnet(systemd, *up)
    wait_connected(systemd)
    assert status(systemd).startswith("Connected; h1.")
    assert str(hosts[1].ipv4) in tnet(systemd, "status")
    systemd.systemctl("start", "tailnet-online.target")
    until("an answer", lambda: answers(systemd, hosts[1]), 20)
    systemd.systemctl("restart", "tailnetd")  # with the target reached
    wait_connected(systemd)
    target = "tailnet-online.target"
    until("it again", lambda: systemd.show(target, "ActiveState") == "active", 20)
    assert rules(systemd) != before
    state = systemd.lib / "tailnetd"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert "denied" not in (journal := systemd.journal("-u", "tailnetd"))
    assert "not permitted" not in journal
    systemd.systemctl("stop", "tailnetd")
    assert systemd.show("tailnetd", "Result") == "success"
    assert systemd.show("tailnetd-wait-online", "ActiveState") == "inactive"
    assert rules(systemd) == before


def test_one_that_hangs_is_killed_by_the_watchdog_and_started_again(systemd: Systemd) -> None:
    """A stopped process is as silent as a loop that never returns."""
    systemd.drop_in("tailnetd.service", "[Service]\nWatchdogSec=2\n", "watchdog.conf")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "tailnetd")
    wait_connected(systemd)
    pid = main_pid(systemd)
    systemd.run("kill", "-STOP", pid)
    until("another tailnetd", lambda: main_pid(systemd) not in {pid, "0"}, 30)
    wait_connected(systemd)
    assert systemd.show("tailnetd", "NRestarts") == "1"
    assert "Watchdog timeout" in systemd.journal("-u", "tailnetd")
    (systemd.etc / "systemd/system/tailnetd.service.d/watchdog.conf").unlink()
    systemd.systemctl("daemon-reload")
    systemd.systemctl("stop", "tailnetd")


def test_after_a_kill_the_residue_goes_and_it_comes_back(
    systemd: Systemd, hosts: tuple[Host, Host]
) -> None:
    """The cleaning finds what was left, the next daemon is the same node."""
    systemd.systemctl("start", "tailnetd")
    wait_connected(systemd)
    address = tnet(systemd, "ip", "-4")
    pid = main_pid(systemd)
    systemd.run("kill", "-KILL", pid)
    until("another tailnetd", lambda: main_pid(systemd) not in {pid, "0"}, 30)
    wait_connected(systemd)
    assert "removed" in systemd.journal("-u", "tailnetd")
    assert tnet(systemd, "ip", "-4") == address
    until("an answer", lambda: answers(systemd, hosts[1]), 20)
    systemd.systemctl("stop", "tailnetd")


def test_the_kill_switch_stands_at_boot_before_the_daemon(systemd: Systemd) -> None:
    """The machine loses its power, and its firewall with it."""
    systemd.systemctl("enable", "tailnetd", "tailnetd-guard")
    systemd.systemctl("start", "tailnetd")
    wait_connected(systemd)
    tnet(systemd, "set", "--kill-switch")
    systemd.close()
    for words in (["nft", "flush", "ruleset"], ["ip", "rule", "flush", "table", "52"]):
        systemd.host.exec(*words, check=False)
    systemd.boot()
    assert "the kill switch is set" in systemd.journal("-u", "tailnetd-guard")
    guarded = int(systemd.show("tailnetd-guard", "ActiveEnterTimestampMonotonic"))
    assert 0 < guarded <= int(systemd.show("tailnetd", "ExecMainStartTimestampMonotonic"))
    wait_connected(systemd)
    tnet(systemd, "set", "--kill-switch=false")
    systemd.systemctl("disable", "--now", "tailnetd", "tailnetd-guard")


def test_a_hook_runs_as_somebody_without_rights(systemd: Systemd, hosts: tuple[Host, Host]) -> None:
    """By a unit of its own: the daemon may not become anybody else."""
    command = [
        "/bin/sh",
        "-c",
        "echo uid $(id -u); grep CapEff /proc/self/status; touch /etc/x /run/x; exit 3",
    ]
    hook = {"on-running": [{"Command": command}]}
    config = {"Version": "alpha0", "Locked": False, "ServerURL": hosts[0].login_server}
    (systemd.etc / "tailnetd.json").write_text(json.dumps({**config, "Hooks": hook}))
    (systemd.etc / "default/tailnetd").write_text('FLAGS="--config=/etc/tailnetd.json"\n')
    systemd.systemctl("start", "tailnetd")
    wait_connected(systemd)
    until("it", lambda: "exited with 3" in systemd.journal("-u", "tailnetd"), 20)
    said = systemd.journal("-u", "tailnetd")
    user = re.search(r"/bin/sh: uid (\d+)$", said, re.MULTILINE)
    assert user is not None
    assert 61184 <= int(user[1]) < 65520  # those of DynamicUser=
    assert "/bin/sh: CapEff:0000000000000000" in said
    assert said.count("cannot touch") == 2
    systemd.systemctl("stop", "tailnetd")
    assert systemd.show("tailnetd-hook.socket", "ActiveState") == "inactive"
    (systemd.etc / "default/tailnetd").write_text("FLAGS=\n")


def test_it_joins_by_a_credential_and_keeps_its_state_sealed_with_another(
    systemd: Systemd, hosts: tuple[Host, Host]
) -> None:
    """Nobody types anything, and no key is in a unit, an environment or a command line."""
    credentials = systemd.etc / "credstore"
    credentials.mkdir(mode=0o700)
    (credentials / "tailnetd.authkey").write_text(AUTH_KEY)
    (credentials / "tailnetd-state").write_bytes(os.urandom(32))
    (systemd.etc / "tailnetd.json").write_text(
        f'{{"Version": "alpha0", "Locked": false, "ServerURL": "{hosts[0].login_server}"}}'
    )
    (systemd.etc / "default/tailnetd").write_text(
        'FLAGS="--config=/etc/tailnetd.json --statedir=/var/lib/tailnetd/sealed"\n'
    )
    sealed = (
        "LoadCredential=tailnetd-state\nEnvironment=TAILNETD_STATE_KEY=credential:tailnetd-state\n"
    )
    systemd.drop_in("tailnetd.service", f"[Service]\n{sealed}", "sealed.conf")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "tailnetd")
    wait_connected(systemd)
    state = systemd.lib / "tailnetd/sealed/tailnetd.state"
    assert state.read_bytes().startswith(b"tailnet-sealed/")
    assert AUTH_KEY not in systemd.run("cat", f"/proc/{main_pid(systemd)}/environ")
    assert AUTH_KEY not in systemd.systemctl("show", "tailnetd")
    systemd.systemctl("restart", "tailnetd")
    wait_connected(systemd)
    systemd.systemctl("stop", "tailnetd")


def test_without_a_device_it_is_nobody_and_still_joins(
    systemd: Systemd, hosts: tuple[Host, Host]
) -> None:
    """By its proxy, with no capability and no device."""
    pytest.importorskip("tailnet_native")
    install(systemd, "--userspace")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "tailnetd-userspace")
    tnet(systemd, *hosts[0].up_arguments(AUTH_KEY))
    pid = systemd.show("tailnetd-userspace", "MainPID")
    facts = systemd.run("cat", f"/proc/{pid}/status")
    assert "CapEff:\t0000000000000000" in facts
    assert "\nUid:\t0" not in facts
    assert "pong" in tnet(systemd, "ping", "--c=1", "--until-direct=false", "h2")
    systemd.systemctl("start", "tailnetd")  # they cannot run at once
    assert systemd.show("tailnetd-userspace", "ActiveState") == "inactive"
    assert systemd.show("tailnetd-userspace", "Result") == "success"
    systemd.systemctl("stop", "tailnetd")


def test_a_user_with_two_capabilities_is_enough(systemd: Systemd, hosts: tuple[Host, Host]) -> None:
    """Device, routes, rules, firewall and traffic, and nothing left, as another uid than root's."""
    (systemd.etc / "systemd/system/tailnetd.service.d/sealed.conf").unlink(missing_ok=True)
    (systemd.etc / "default/tailnetd").write_text("FLAGS=\n")
    before = rules(systemd)
    install(systemd, "--unprivileged")
    systemd.run("systemd-sysusers", "/etc/sysusers.d/tailnetd.conf")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "tailnetd")
    tnet(systemd, *hosts[0].up_arguments(AUTH_KEY))
    wait_connected(systemd)
    facts = systemd.run("cat", f"/proc/{main_pid(systemd)}/status")
    assert "CapEff:\t0000000000003000" in facts
    assert "CapBnd:\t0000000000003000" in facts
    assert "\nUid:\t0" not in facts
    until("an answer", lambda: answers(systemd, hosts[1]), 20)
    assert "tailnet0" in systemd.run("nft", "list", "ruleset")
    pid = main_pid(systemd)
    systemd.run("kill", "-KILL", pid)
    until("another tailnetd", lambda: main_pid(systemd) not in {pid, "0"}, 30)
    wait_connected(systemd)
    systemd.systemctl("stop", "tailnetd")
    assert rules(systemd) == before


def test_install_makes_a_service_that_runs_and_uninstall_takes_it_back(
    systemd: Systemd, hosts: tuple[Host, Host]
) -> None:
    """By the systemd that runs, as a person types it; twice is once, and keys stay until asked."""
    for unit in (systemd.etc / "systemd/system").glob("tailnet*"):
        if unit.is_file():
            unit.unlink()
    systemd.systemctl("daemon-reload")
    systemd.run("mkdir", "-p", HERE)
    systemd.run("mount", "--bind", str(BIN), HERE)
    before = rules(systemd)
    said = systemd.run(f"{HERE}/tnet", "install")
    assert "wrote /etc/systemd/system/tailnetd.service" in said
    assert said.endswith("join a tailnet with: tnet up")
    tnet(systemd, *hosts[0].up_arguments(AUTH_KEY))
    wait_connected(systemd)
    pid = main_pid(systemd)
    assert systemd.show("tailnetd", "UnitFileState") == "enabled"
    assert "wrote" not in systemd.run(f"{HERE}/tnet", "install")
    assert main_pid(systemd) == pid
    tnet(systemd, "set", "--kill-switch")
    said = systemd.run(f"{HERE}/tnet", "uninstall")
    assert "removed /etc/systemd/system/tailnetd.service" in said
    assert "--purge removes them, too" in said
    assert systemd.show("tailnetd", "LoadState") == "not-found"
    assert rules(systemd) == before
    systemd.run(f"{HERE}/tnet", "uninstall", "--purge")
    assert not (systemd.lib / "tailnetd").exists()


def test_a_user_has_a_service_of_their_own(systemd: Systemd, hosts: tuple[Host, Host]) -> None:
    """Under a service manager that is nobody's, without a device or any right."""
    pytest.importorskip("tailnet_native")
    if sys.base_prefix.startswith("/root/"):
        systemd.run("sh", "-c", OPENED, sys.base_prefix)
    home = "/run/user/65534"
    systemd.run("install", "-d", "-o65534", "-g65534", "-m700", home)
    manager = ("[Service]", "User=65534", "Group=65534", "Type=notify", "Delegate=yes", "PAMName=")
    words = (
        f"Environment=HOME={home} XDG_RUNTIME_DIR={home}",
        "ExecStart=/lib/systemd/systemd --user",
    )
    unit = systemd.etc / "systemd/system/manager.service"
    unit.write_text("\n".join((*manager, *words)) + "\n")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "manager")
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    own = (*as_nobody, "env", f"HOME={home}", f"XDG_RUNTIME_DIR={home}")
    systemd.run(*own, f"{HERE}/tnet", "install", "--user")
    socket = f"--socket={home}/tailnetd.sock"
    systemd.run(*own, f"{HERE}/tnet", socket, *hosts[0].up_arguments(AUTH_KEY))
    said = systemd.run(*own, f"{HERE}/tnet", socket, "ping", "--c=1", "--until-direct=false", "h2")
    assert "pong" in said
    systemd.run(*own, f"{HERE}/tnet", "uninstall", "--user", "--purge")
    assert "tailnetd" not in systemd.run(*own, "systemctl", "--user", "list-units", "--plain")
    systemd.systemctl("stop", "manager")
