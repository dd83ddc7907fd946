"""The programs of Debian that manage names, each for real: told, restored, and while we are dead.

::

    debian: resolvconf      open: openresolv        resolved: systemd-resolved, on a bus of its own
    manager: NetworkManager with systemd-resolved   peer: nothing of the kind
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab import programs
from integration.lab.config import AUTH_KEY
from integration.lab.host import DEVICE, Host
from integration.lab.lab import Lab
from integration.lab.private import root_of
from integration.lab.process import Process
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(150)]

LAN, DOMAIN = "10.99.0.1", "lan.example"
LEASE = f"nameserver {LAN}\nsearch {DOMAIN}\n"
# The libc script of openresolv empties the file and then fills it: this makes that moment longer.
SLOW = 'printf() { [ "$2" != "${newconf:-none}" ] || sleep 0.03; command printf "$@"; }\n'
MODES = {
    "debian": "debian-resolvconf",
    "open": "openresolv",
    "resolved": "systemd-resolved",
    "manager": "systemd-resolved",
}
_LINKS = "cat /etc/resolv.conf; ls /etc; resolvectl dns; resolvectl domain"
STATE = {
    "debian": "cat /etc/resolv.conf; ls /run/resolvconf/interface; ls /etc/resolvconf/*",
    "open": "cat /etc/resolv.conf; resolvconf -i",
    "resolved": _LINKS,
    "manager": _LINKS,
}
WAYS = os.environ.get("DNS_FAULTS", "one")  # "all": whatever fails, does so in four ways
EACH = pytest.mark.parametrize("name", MODES)


def set_up(host: Host, started: dict[str, Process]) -> None:
    """As on a machine that has such a program and a lease; what can be restarted is noted."""
    root = root_of(host.namespace)
    assert root is not None
    match host.name:
        case "debian":
            programs.install(host, "resolvconf")
            (root / "run/resolvconf/interface").mkdir(parents=True)
            (root / "etc/resolv.conf").unlink()
            (root / "etc/resolv.conf").symlink_to("../run/resolvconf/resolv.conf")
            host.exec("resolvconf", "--enable-updates")
            host.exec("sh", "-c", f"printf '{LEASE}' | resolvconf -a eth0.inet")
        case "open":
            programs.install(host, "openresolv")
            with (root / "etc/resolvconf.conf").open("a") as conf:
                conf.write(SLOW)
            (root / "etc/resolv.conf").unlink()
            host.exec("sh", "-c", f"printf '{LEASE}' | resolvconf -a eth0")
        case "resolved":
            programs.install(host, "systemd-resolved")
            programs.start_bus(host)
            started[host.name] = programs.start_resolved(host, LAN, DOMAIN)
        case "manager":
            programs.install(host, "systemd-resolved", "network-manager", "libndp0")
            programs.start_bus(host)
            programs.start_resolved(host, LAN, DOMAIN)
            manager = root / "etc/NetworkManager/NetworkManager.conf"
            manager.parent.mkdir(exist_ok=True)
            manager.write_text(
                "[main]\ndns=systemd-resolved\nplugins=\nauth-polkit=false\n"
                "[keyfile]\nunmanaged-devices=*\n"
            )
            host.spawn("manager", "/usr/sbin/NetworkManager", "--no-daemon")
            until("NetworkManager", lambda: dns_mode(host) == "systemd-resolved", 15)


def dns_mode(host: Host) -> str:
    """What NetworkManager says it uses."""
    where = ("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager/DnsManager")
    words = ("busctl", "get-property", *where, "org.freedesktop.NetworkManager.DnsManager", "Mode")
    return host.exec(*words, check=False).stdout.partition('"')[2].rstrip('"\n')


def state(host: Host) -> str:
    """How the host resolves names, in the words of its programs."""
    return host.exec("sh", "-c", STATE[host.name], check=False).stdout


def resolve(host: Host, name: str) -> str:
    """The address that a program of the host gets, by libc."""
    words = host.exec("getent", "ahostsv4", name, check=False).stdout.split()
    return words[0] if words else ""


@pytest.fixture(scope="module")
def started() -> dict[str, Process]:
    """systemd-resolved, by host."""
    return {}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab, started: dict[str, Process]) -> Iterator[Lab]:
    """The programs run; nobody has joined but the peer."""
    lab = make_lab(flat(*MODES, "peer"))
    server = Process(
        "dnsmasq",
        [
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
            *("--bind-interfaces", f"--listen-address={LAN}", "--user=root", "--pid-file="),
            "--address=/printer.lan.example/192.0.2.7",
        ],
        lab.directory / "dnsmasq.log",
        namespace=lab.network.internet,
    )
    try:
        for name in MODES:
            set_up(lab.hosts[name], started)
        lab.hosts["peer"].start()
        lab.hosts["peer"].up(AUTH_KEY)
        for name in MODES:
            host = lab.hosts[name]
            until(f"{name}'s own names", lambda h=host: resolve(h, "printer") == "192.0.2.7", 15)  # type: ignore[misc]
        yield lab
    except programs.NotThere as reason:
        cannot(str(reason))
    finally:
        server.kill()


def join(lab: Lab, host: Host) -> None:
    """Up, and names of the tailnet resolve."""
    host.start()
    host.up(AUTH_KEY)
    peer = lab.hosts["peer"]
    until("a peer's name", lambda: resolve(host, "peer.lab.ts.net") == str(peer.ipv4), 15)


@EACH
def test_names_of_both_worlds_resolve_and_a_stop_restores(lab: Lab, name: str) -> None:
    """By libc; the program that manages names is told and later told otherwise."""
    host, peer = lab.hosts[name], lab.hosts["peer"]
    before = state(host)
    join(lab, host)
    assert f"configured by {MODES[name]}" in host.tnet("dns", "status").stdout
    assert resolve(host, "printer") == "192.0.2.7"
    assert resolve(host, "nobody.lab.ts.net") == ""
    if MODES[name] == "systemd-resolved":
        said = host.exec("resolvectl", "query", "--cache=no", "peer.lab.ts.net").stdout
        assert f"{peer.ipv4}" in said
        assert "link: tailnet0" in said
        about = host.exec("resolvectl", "status", "tailnet0").stdout
        assert "-DefaultRoute" in about  # what is not the tailnet's goes elsewhere
    host.stop()
    assert state(host) == before
    assert resolve(host, "printer") == "192.0.2.7"


@EACH
def test_a_killed_daemon_leaves_names_that_resolve(lab: Lab, name: str) -> None:
    """Without anybody doing anything; and ``--cleanup`` then finds nothing wrong."""
    host = lab.hosts[name]
    before = state(host)
    join(lab, host)
    host.kill9()
    until("the old state", lambda: state(host) == before, 10)
    assert resolve(host, "printer") == "192.0.2.7"
    host.exec(*host.daemon_command("--cleanup"))
    assert state(host) == before


@EACH
def test_cleanup_restores_where_the_caretaker_died_too(lab: Lab, name: str) -> None:
    """As when everything of a service is killed at once."""
    host = lab.hosts[name]
    before = state(host)
    join(lab, host)
    host.exec("sh", "-c", f"pkill -KILL -P {host.running.pid} sh", check=False)
    host.kill9()
    host.exec(*host.daemon_command("--cleanup"))
    assert state(host) == before
    assert resolve(host, "printer") == "192.0.2.7"


def test_a_resolver_that_starts_anew_is_told_again(lab: Lab, started: dict[str, Process]) -> None:
    """systemd-resolved forgets what it was told when it ends."""
    host = lab.hosts["resolved"]
    peer = lab.hosts["peer"]
    join(lab, host)
    started["resolved"].kill()
    until("the end", lambda: resolve(host, "peer.lab.ts.net") == "", 10)
    started["resolved"] = host.spawn("resolved", "/usr/lib/systemd/systemd-resolved")
    until("a peer's name", lambda: resolve(host, "peer.lab.ts.net") == str(peer.ipv4), 20)
    host.exec("resolvectl", "dns", "eth0", LAN)
    host.exec("resolvectl", "domain", "eth0", DOMAIN)
    host.stop()


def test_a_circle_through_systemd_resolved_ends(lab: Lab) -> None:
    """The tailnet names 127.0.0.53 as its resolver, and that asks us: #2595, #7011.

    systemd-resolved joins a question to the same one that is under way, so each goes round once.
    """
    host = lab.hosts["resolved"]
    join(lab, host)
    lab.admin("set_names", dns={"Resolvers": [{"Addr": "127.0.0.53"}]})
    lab.admin("drop_streams")
    until("the circle", lambda: "~." in host.exec("resolvectl", "domain", "tailnet0").stdout, 30)
    names = [f"{n}.circle.example" for n in range(5)]
    said = host.exec(
        "dig", "+tries=1", "+timeout=2", "@100.100.100.100", *names, check=False
    ).stdout
    assert "NOERROR" not in said
    forwarded = host.tnet("debug", "drops").stdout
    assert resolve(host, "peer.lab.ts.net") == str(lab.hosts["peer"].ipv4), forwarded
    lab.admin("set_names", dns={})
    lab.admin("drop_streams")
    until("names of the LAN", lambda: resolve(host, "printer") == "192.0.2.7", 30)
    host.stop()


def fail_once(host: Host) -> str:
    """Everything that is asked of its programs; what was survived."""
    before = state(host)
    host.exec("ip", "tuntap", "add", "mode", "tun", DEVICE)
    try:
        host.exec("ip", "link", "set", DEVICE, "up")
        host.exec("ip", "addr", "add", "100.64.0.1/32", "dev", DEVICE)
        words = (sys.executable, "-m", "integration.lab.dns_faults", DEVICE, STATE[host.name], WAYS)
        done = host.exec(*words, check=False, timeout=130)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        host.exec("ip", "link", "del", DEVICE)
    assert state(host) == before
    return done.stdout


def test_whatever_fails_once_is_said_or_mended_and_then_done(lab: Lab) -> None:
    """Each call of D-Bus and each run of a program, at start, at changes and at the stop."""
    with ThreadPoolExecutor() as pool:
        survived = pool.map(fail_once, [lab.hosts[name] for name in MODES])
        for name, lines in zip(MODES, survived, strict=True):
            sys.stdout.write(f"{name}:\n{lines}")
            assert "survived" in lines
