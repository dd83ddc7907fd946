"""Ordinary programs resolve names of the tailnet, and the host is as before afterwards.

::

    h1 (native datapath) ── bridge: control, relay, DNS of the LAN ── h2 (pure Python datapath)

Neither host has anything that manages names: ``/etc/resolv.conf`` is replaced.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.private import root_of
from integration.lab.process import Process
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

DOMAIN = "lab.ts.net"
LAN = "10.99.0.1"  # where the LAN's DNS server is
BOTH = pytest.mark.parametrize("name", ["h1", "h2"])
BEFORE = f"# by hand\nnameserver {LAN}\nsearch lan.example\noptions timeout:1 attempts:1\n"


def etc(host: Host) -> Path:
    """Its ``/etc``, seen from outside."""
    root = root_of(host.namespace)
    assert root is not None
    return root / "etc"


def resolv_conf(host: Host) -> str:
    """The text; empty if there is no file."""
    file = etc(host) / "resolv.conf"
    return file.read_text() if file.exists() else ""


def snapshot(host: Host) -> dict[str, object]:
    """Every file in ``/etc`` itself: its number, mode, time and content."""
    found: dict[str, object] = {}
    for path in etc(host).iterdir():
        with suppress(FileNotFoundError):  # somebody tidies up just now
            info = path.lstat()
            text = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[path.name] = (info.st_ino, info.st_mode, info.st_mtime_ns, text)
    return found


def resolve(host: Host, name: str) -> str:
    """The address that a program of the host gets, by libc."""
    words = host.exec("getent", "ahostsv4", name, check=False).stdout.split()
    return words[0] if words else ""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    """Not joined; the LAN's DNS server knows ``printer.lan.example``."""
    lab = make_lab(flat("h1", "h2"))
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
    for host in lab.hosts.values():
        (etc(host) / "resolv.conf").write_text(BEFORE)
    until("dnsmasq", lambda: resolve(lab.hosts["h1"], "printer.lan.example") == "192.0.2.7", 10)
    yield lab
    server.kill()


def is_ours(host: Host) -> bool:
    """The file names our resolver and nobody else."""
    lines = resolv_conf(host).splitlines()
    return [line for line in lines if line.startswith("nameserver")] == [
        "nameserver 100.100.100.100"
    ]


def start(host: Host) -> None:
    """The daemon, with the datapath of that host."""
    host.start(f"--datapath={'native' if host.name == 'h1' else 'reference'}")


@pytest.fixture(scope="module")
def joined(lab: Lab) -> Lab:
    """Both hosts are up."""
    for host in lab.hosts.values():
        start(host)
        host.up(AUTH_KEY)
    lab.wait_complete()
    for host in lab.hosts.values():
        until("names", lambda h=host: is_ours(h), 5)  # type: ignore[misc]
    return lab


@BOTH
def test_programs_resolve_peers(joined: Lab, name: str) -> None:
    """By the full name and the short one, with libc; a page by its name, with curl."""
    here = joined.hosts[name]
    there = joined.hosts["h2" if name == "h1" else "h1"]
    server = there.spawn(
        "page", "python3", "-m", "http.server", "--bind", str(there.ipv4), "--directory", "/run"
    )
    # /etc/hosts of the lab has the underlay's short names; the search domain is asked for others.
    assert resolve(here, f"{there.name}.{DOMAIN}") == str(there.ipv4)
    assert f"search {DOMAIN} lan.example" in resolv_conf(here)
    url = f"http://{there.name}.{DOMAIN}:8000/"
    page = ("curl", "-sS", "-o", "/dev/null", "-w", "%{remote_ip}", "--max-time", "5", url)
    until("a page", lambda: here.exec(*page, check=False).stdout == str(there.ipv4), 10)
    server.kill()


@BOTH
def test_names_of_the_lan_resolve_as_before(joined: Lab, name: str) -> None:
    """By its search domain, too; and what nobody knows is not made up."""
    here = joined.hosts[name]
    assert resolve(here, "printer.lan.example") == "192.0.2.7"
    assert resolve(here, "printer") == "192.0.2.7"
    assert resolve(here, "nobody.example") == ""


@BOTH
def test_tnet_dns_says_how_names_are_resolved(joined: Lab, name: str) -> None:
    """What the host did before, what a name is, who answered, and why."""
    here = joined.hosts[name]
    said = here.tnet("dns", "status").stdout
    assert "Tailnet DNS: on\n" in said
    assert f"configured by direct; without the tailnet: {LAN}, search lan.example" in said
    there = joined.hosts["h2" if name == "h1" else "h1"]
    said = here.tnet("dns", "query", f"{there.name}.{DOMAIN}").stdout
    assert said.splitlines()[0].split()[-1] == str(there.ipv4)
    assert "answered by tailnetd: a node of the tailnet" in said
    said = here.tnet("dns", "query", "printer.lan.example").stdout
    assert said.splitlines()[0].split()[-1] == "192.0.2.7"
    assert f"answered by {LAN}:53, one of the resolvers for ." in said
    assert here.tnet("dns", "query", str(there.ipv4)).stdout.split()[3] == f"{there.name}.{DOMAIN}."
    assert "NXDOMAIN" in here.tnet("dns", "query", f"nobody.{DOMAIN}", "AAAA").stdout


@BOTH
def test_names_of_this_host_alone(joined: Lab, name: str) -> None:
    """At once, by dig and libc, over others, kept over a new start, and gone when removed."""
    here = joined.hosts[name]
    there = joined.hosts["h2" if name == "h1" else "h1"]
    here.tnet("dns", "record", "add", "nas.home", "192.0.2.10", "192.0.2.11", "2001:db8::10")
    here.tnet("dns", "record", "add", "*.dev.lan", "127.0.0.9")
    here.tnet("dns", "record", "add", f"{there.name}.{DOMAIN}", "192.0.2.12")

    def dig(*words: str) -> list[str]:
        command = ("dig", "+tries=1", "+timeout=3", "+short", *words)
        return here.exec(*command, check=False).stdout.split()

    assert sorted(dig("nas.home")) == ["192.0.2.10", "192.0.2.11"]
    assert dig("nas.home", "AAAA") == ["2001:db8::10"]
    assert dig("+tcp", "a.b.dev.lan") == ["127.0.0.9"]
    assert dig("-x", "192.0.2.10") == ["nas.home."]
    assert resolve(here, "api.dev.lan") == "127.0.0.9"
    assert resolve(here, f"{there.name}.{DOMAIN}") == "192.0.2.12"
    assert resolve(there, "api.dev.lan") == ""
    assert "a record of this host" in here.tnet("dns", "query", "x.dev.lan").stdout
    here.stop()
    start(here)
    here.wait_running()
    until("our file", lambda: is_ours(here), 5)
    until("the names", lambda: resolve(here, "api.dev.lan") == "127.0.0.9", 5)
    for gone in ("nas.home", "*.dev.lan", f"{there.name}.{DOMAIN}"):
        here.tnet("dns", "record", "remove", gone)
    assert dig("nas.home") == []
    assert resolve(here, "api.dev.lan") == ""
    assert resolve(here, f"{there.name}.{DOMAIN}") == str(there.ipv4)
    assert here.tnet("dns", "record", "list").stdout == ""


@BOTH
def test_who_does_not_want_it_has_his_file_back_at_once(joined: Lab, name: str) -> None:
    """And again ours when it is wanted again."""
    here = joined.hosts[name]
    here.tnet("set", "--accept-dns=false")
    until("the old file", lambda: resolv_conf(here) == BEFORE, 2)
    assert resolve(here, "printer") == "192.0.2.7"
    here.tnet("set", "--accept-dns")
    until("our file", lambda: is_ours(here), 2)


@BOTH
def test_down_and_up(joined: Lab, name: str) -> None:
    """While down, names resolve as before."""
    here = joined.hosts[name]
    here.tnet("down")
    until("the old file", lambda: resolv_conf(here) == BEFORE, 2)
    assert resolve(here, "printer") == "192.0.2.7"
    here.tnet("up")
    until("our file", lambda: is_ours(here), 5)


def test_no_question_is_lost_while_it_goes_down(joined: Lab) -> None:
    """Ten rounds of down and up, with a program that asks all the time."""
    here = joined.hosts["h1"]
    loop = (
        "n=0; while [ ! -e /run/enough ]; do n=$((n+1)); "
        "getent ahostsv4 printer.lan.example >/dev/null || echo lost; done; echo $n done"
    )
    asking = here.spawn("asking", "sh", "-c", loop)
    for _ in range(10):
        here.tnet("down")
        until("the old file", lambda: resolv_conf(here) == BEFORE, 2)
        here.tnet("up")
        until("our file", lambda: is_ours(here), 5)
    here.exec("touch", "/run/enough")
    assert asking.wait(10) == 0
    here.exec("rm", "/run/enough")
    said = asking.tail(100).split()
    assert "lost" not in said
    assert int(said[-2]) >= 20


@BOTH
def test_what_another_program_writes_is_used_and_told(joined: Lab, name: str) -> None:
    """A DHCP client with a new lease: we forward there; one that does not stop: a warning."""
    here = joined.hosts[name]
    (etc(here) / "resolv.conf").write_text("nameserver 10.99.0.1\nsearch other.example\n")
    until("our file", lambda: "search lab.ts.net other.example" in resolv_conf(here), 5)
    assert resolve(here, "printer.lan.example") == "192.0.2.7"
    told = "another program keeps replacing /etc/resolv.conf"

    def warned() -> bool:
        return any(told in line for line in here.status()["Health"] or ())

    def trample() -> bool:
        if is_ours(here):
            (etc(here) / "resolv.conf").write_text("nameserver 10.99.0.1\n")
        return warned()

    until("the warning", trample, 20)
    until("peace", lambda: is_ours(here) and not warned(), 15)
    here.tnet("set", "--accept-dns=false")
    until("their file", lambda: resolv_conf(here) == "nameserver 10.99.0.1\n", 2)
    (etc(here) / "resolv.conf").write_text(BEFORE)
    here.tnet("set", "--accept-dns")
    until("our file", lambda: is_ours(here), 2)


@BOTH
def test_the_very_same_file_after_a_stop(joined: Lab, name: str) -> None:
    """Number, mode, time and content, and nothing beside it."""
    here = joined.hosts[name]
    here.stop()
    assert resolv_conf(here) == BEFORE
    before = snapshot(here)
    start(here)
    until("our file", lambda: is_ours(here), 10)
    assert snapshot(here) != before
    here.stop()
    assert snapshot(here) == before
    start(here)
    here.wait_running()
    until("our file", lambda: is_ours(here), 5)


@BOTH
def test_a_killed_daemon_leaves_names_that_resolve(joined: Lab, name: str) -> None:
    """Within a second, without anybody doing anything; and nothing of it runs on."""
    here = joined.hosts[name]
    here.stop()
    before = snapshot(here)
    start(here)
    until("our file", lambda: is_ours(here), 10)
    here.kill9()
    until("the old file", lambda: snapshot(here) == before, 5)
    assert resolve(here, "printer") == "192.0.2.7"
    start(here)
    here.wait_running()
    until("our file", lambda: is_ours(here), 5)
    here.stop()
    assert snapshot(here) == before
    start(here)
    here.wait_running()


Act = Callable[[Host], None]


def clean_up(here: Host) -> None:
    """Said what it did."""
    here.exec(*here.daemon_command("--cleanup"))


def start_and_stop(here: Host) -> None:
    """The next daemon finds what is left."""
    start(here)
    here.wait_running()
    here.stop()


@pytest.mark.parametrize("act", [clean_up, start_and_stop])
def test_where_the_caretaker_was_killed_too(joined: Lab, act: Act) -> None:
    """As when all of a container is killed: ``--cleanup``, or the next start and its end."""
    here = joined.hosts["h1"]
    here.stop()
    before = snapshot(here)
    start(here)
    until("our file", lambda: is_ours(here), 10)
    here.exec("sh", "-c", f"pkill -KILL -P {here.running.pid} sh", check=False)
    here.kill9()
    assert is_ours(here)
    act(here)
    assert snapshot(here) == before
    start(here)
    here.wait_running()
