"""An exit node answers for names, as its own host would: over the PeerAPI, to its users.

::

    h1 uses h2 ──┐                          ┌── dnsmasq of the exit node's LAN (printer.lan.example)
    go uses h2 ──┼── bridge: control, DERP ─┼── h2 (exit node)        go: where tailscaled is given
  light uses h2 ─┘                          └── light (exit node too: userspace, user 65534)
"""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.private import root_of
from integration.lab.process import Process
from integration.lab.routing import VARIABLE, Theirs
from integration.lab.topology import flat
from integration.lab.waiting import until

from tailnet.agent.dns.message import A, query_untrusted
from tailnet.agent.dns.names import Name

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

LAN, SERVICE = "10.99.0.1", "100.100.100.100"
PRINTER = "printer.lan.example"
QUERY = query_untrusted(Name(PRINTER), A)
PRIVATE = "secret.corp.example"
NONE, KNOWS = "# none\n", f"nameserver {LAN}\n"
NOBODY = 65534


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    """Only the hosts of h2 and light know a resolver, and these are exit nodes."""
    lab = make_lab(flat("h1", "h2", "light", "go"))
    server = Process(
        "dnsmasq",
        [
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
            *("--bind-interfaces", f"--listen-address={LAN}", "--user=root", "--pid-file="),
            f"--address=/{PRINTER}/192.0.2.7",
            f"--address=/{PRIVATE}/192.0.2.8",
        ],
        lab.directory / "dnsmasq.log",
        namespace=lab.network.internet,
    )
    for name, text in (("h1", NONE), ("h2", KNOWS), ("light", KNOWS), ("go", NONE)):
        root = root_of(lab.hosts[name].namespace)
        assert root is not None
        (root / "etc/resolv.conf").write_text(text)
    for host in lab.hosts.values():
        host.exec("ip", "route", "add", "default", "via", LAN)
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        lab.hosts["h2"].exec("sysctl", "-qw", f"{name}=1")
    lab.hosts["h1"].start("--datapath=reference")
    lab.hosts["h2"].start()
    lab.hosts["light"].start("--tun=userspace-networking", user=NOBODY)
    lab.hosts["h1"].up(AUTH_KEY)
    lab.hosts["h2"].up(AUTH_KEY, "--advertise-exit-node")
    lab.hosts["light"].up(AUTH_KEY, "--advertise-exit-node")
    for name in ("h2", "light"):
        until(f"{name} is seen", lambda n=name: lab.hosts["h1"].peer(n), 20)  # type: ignore[misc]
    lab.admin("set_names", dns={"ExitNodeFilteredSet": [".corp.example"]})
    lab.admin("drop_streams")
    until("an exit node", lambda: _offered(lab.hosts["h1"]), 20)
    yield lab
    server.kill()


def _offered(host: Host) -> bool:
    return host.tnet("exit-node", "list", check=False).returncode == 0


def dig(host: Host, *words: str) -> str:
    """What quad-100 says there."""
    command = ("dig", "+tries=1", "+timeout=5", f"@{SERVICE}", *words)
    return host.exec(*command, check=False).stdout


def peer_api(host: Host, name: str) -> str:
    """Address and port of a peer's PeerAPI, as a peer is told."""
    found: list[str] = []

    def told() -> bool:
        peer = host.peer(name)
        found.extend((peer or {}).get("PeerAPIURL") or ())
        return bool(found)

    until("where the PeerAPI is", told, 10)
    return found[0]


def curl(host: Host, *words: str) -> tuple[str, str]:
    """Status, and content type."""
    form = ("-sS", "-o", "/dev/null", "-w", "%{http_code} %{content_type}", "--max-time", "8")
    status, _, kind = host.exec("curl", *form, *words, check=False).stdout.partition(" ")
    return status, kind


def test_names_are_resolved_where_the_exit_node_is(lab: Lab) -> None:
    """By UDP and TCP, and as before once it is not used; the filtered name is refused."""
    here = lab.hosts["h1"]
    assert "192.0.2.7" not in dig(here, "+short", PRINTER)
    here.tnet("set", "--exit-node=h2")
    until("the name", lambda: dig(here, "+short", PRINTER) == "192.0.2.7\n", 20)
    assert dig(here, "+tcp", "+short", PRINTER) == "192.0.2.7\n"
    assert "/dns-query" in here.tnet("dns", "query", PRINTER).stdout
    assert "192.0.2.8" not in dig(here, PRIVATE)
    assert "status: REFUSED" in dig(here, PRIVATE)
    h2 = lab.hosts["h2"]
    assert dig(here, "+short", f"h2.{lab.hosts['h2'].status()['MagicDNSSuffix']}") == f"{h2.ipv4}\n"
    here.tnet("set", "--exit-node=")
    until("the end of it", lambda: "192.0.2.7" not in dig(here, "+short", PRINTER), 10)


def test_the_peer_api_to_those_who_know_it(lab: Lab) -> None:
    """GET and POST of RFC 8484; a foreign Host, a web page and nonsense are refused."""
    here = lab.hosts["h1"]
    url = peer_api(here, "h2")
    ask = base64.urlsafe_b64encode(QUERY).decode().rstrip("=")
    message = "application/dns-message"
    assert curl(here, f"{url}/dns-query?dns={ask}") == ("200", message)
    body = here.directory / "query"
    body.write_bytes(QUERY)
    post = ("-H", f"Content-Type: {message}", "--data-binary", f"@{body}", f"{url}/dns-query")
    assert curl(here, *post) == ("200", message)
    assert curl(here, f"{url}/")[0] == "200"
    assert curl(here, "-H", "Host: peer", f"{url}/dns-query?dns={ask}")[0] == "200"
    assert curl(here, "-H", "Host: evil.example", f"{url}/dns-query?dns={ask}")[0] == "403"
    assert curl(here, "-H", "Origin: http://evil", f"{url}/dns-query?dns={ask}")[0] == "403"
    assert curl(here, f"{url}/dns-query?dns=AAAA")[0] == "400"
    assert curl(here, f"{url}/dns-query?dns=%21%21")[0] == "400"
    assert curl(here, "-X", "PUT", f"{url}/dns-query")[0] == "405"
    assert curl(here, f"{url}/elsewhere")[0] == "404"


def test_one_in_userspace_answers_as_well(lab: Lab) -> None:
    """Without any privilege or device, from the resolvers of its host, which it does not touch."""
    here, there = lab.hosts["h1"], lab.hosts["light"]
    here.tnet("set", "--exit-node=light")
    until("the name", lambda: dig(here, "+short", PRINTER) == "192.0.2.7\n", 20)
    assert "/dns-query" in here.tnet("dns", "query", PRINTER).stdout
    assert "status: REFUSED" in dig(here, PRIVATE)
    url = peer_api(here, "light")
    assert url.startswith(f"http://{there.ipv4}:")
    assert curl(here, f"{url}/")[0] == "200"
    assert curl(here, "-H", "Host: evil.example", f"{url}/")[0] == "403"
    assert curl(here, "--data-binary", "@/bin/sh", f"{url}/dns-query")[0] in {"413", "415"}
    assert curl(here, f"{url}/elsewhere")[0] == "404"
    here.tnet("set", "--exit-node=")
    until("the end of it", lambda: "192.0.2.7" not in dig(here, "+short", PRINTER), 10)


def test_one_in_userspace_asks_as_well(lab: Lab) -> None:
    """What its proxies and ``tnet`` want to know goes to the exit node it uses."""
    light = lab.hosts["light"]
    light.tnet("set", "--advertise-exit-node=false")
    light.tnet("set", "--exit-node=h2")
    until("it asks", lambda: "/dns-query" in light.tnet("dns", "query", PRINTER).stdout, 20)
    assert "192.0.2.7" in light.tnet("dns", "query", PRINTER).stdout
    assert "192.0.2.8" not in light.tnet("dns", "query", PRIVATE, check=False).stdout
    light.tnet("set", "--exit-node=")
    light.tnet("set", "--advertise-exit-node")


def test_shields_up_keeps_pings_out_but_not_those_who_ask(lab: Lab) -> None:
    """The PeerAPI judges by itself; nothing else is let in for its sake."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    url = peer_api(here, "h2")
    ping = ("ping", "-n", "-c1", "-W1", str(there.ipv4))
    until("a ping", lambda: here.exec(*ping, check=False).returncode == 0, 10)
    there.tnet("set", "--shields-up")
    until("no ping", lambda: here.exec(*ping, check=False).returncode != 0, 10)
    assert curl(here, f"{url}/")[0] == "200"
    there.tnet("set", "--shields-up=false")


def test_down_and_up_again(lab: Lab) -> None:
    """The PeerAPI goes with the addresses and comes with them; routes do, too."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    url = peer_api(here, "h2")
    for _ in range(3):
        there.tnet("down")
        until("nobody", lambda: curl(here, f"{url}/")[0] != "200", 10)
        there.tnet("up")
        until("somebody", lambda: curl(here, f"{url}/")[0] == "200", 20)
        ping = ("ping", "-n", "-c1", "-W1", str(here.ipv4))
        until("a ping", lambda: there.exec(*ping, check=False).returncode == 0, 10)  # noqa: B023


def test_a_go_node_resolves_through_our_exit_nodes(lab: Lab) -> None:
    """It asks our PeerAPI for every name."""
    program = os.environ.get(VARIABLE)
    if not program:
        pytest.skip(f"{VARIABLE} does not say where tailscaled is")
    go = Theirs(lab.hosts["go"], Path(program))
    go.up()
    for name in ("h2", "light"):
        until("it is offered", lambda n=name: n in go.ask("exit-node", "list"), 20)  # type: ignore[misc]
        go.set(f"--exit-node={name}")
        until("the name", lambda: dig(go.host, "+short", PRINTER) == "192.0.2.7\n", 20)
        go.set("--exit-node=")
        until("the end of it", lambda: "192.0.2.7" not in dig(go.host, "+short", PRINTER), 20)
