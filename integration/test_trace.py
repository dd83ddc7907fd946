"""``tnet trace`` says what the kernel's packets meet.

::

    h1 ── bridge ── h2
"""

import json
import sys
from typing import Any

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

PORT = 2222
WEB_ONLY = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 80, "Last": 80}}]}]
EVERYTHING = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts; h2 has a server on PORT."""
    lab = make_lab(flat("h1", "h2"))
    for host in lab.hosts.values():
        host.start()
    for host in lab.hosts.values():
        host.up(AUTH_KEY)
    lab.wait_complete()
    lab.hosts["h2"].spawn("server", sys.executable, "-m", "http.server", str(PORT), "--bind", "::")
    return lab


def trace(host: Host, *args: str) -> tuple[int, Any]:
    """Exit code and tree."""
    done = host.tnet("trace", "--json", *args, check=False)
    return done.returncode, json.loads(done.stdout)


def step(tree: Any, stage: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The step of a stage."""
    return next(s for s in tree["Steps"] if s["Stage"] == stage)


def test_a_way_that_is_open_is_walked_to_its_end(lab: Lab) -> None:
    """And a program that tries gets there."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    code, tree = trace(here, f"h2:{PORT}")
    assert (code, tree["Dst"], tree["Verdict"] == "stop") == (0, str(there.ipv4), False)

    def live() -> bool:
        shown = here.tnet("trace", "--live", f"h2:{PORT}", check=False)
        return shown.returncode == 0 and "connected to" in shown.stdout

    until("a connection", live, 10.0)
    shown = here.tnet("trace", "--live", "h2").stdout
    for part in ("path    disco: answered via", "system  ICMP: answered", "tunnel  TSMP: answered"):
        assert f"Tried: {part}" in shown
    assert "last handshake with h2" in step(trace(here, "h2")[1], "session")["Text"]


def test_a_rule_that_lets_nothing_in_is_named_where_it_holds(lab: Lab) -> None:
    """At its own host at once; at the other after the first refusal."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    lab.admin("set-filter", rules=WEB_ONLY)
    until("the rule", lambda: trace(there, "h1", f"self:{PORT}")[0] == 1, 10.0)
    said = step(trace(there, "h1", f"self:{PORT}")[1], "filter")
    assert said["Verdict"] == "stop"
    assert said["Evidence"] == ["rule 1: tcp, udp, icmp from * to * port 80"]
    assert trace(there, "h1", "self:80")[0] == 0
    shown = here.tnet("trace", "--live", f"h2:{PORT}", check=False)
    assert (shown.returncode, "connected to" in shown.stdout) == (1, False)
    refused = step(trace(here, f"h2:{PORT}")[1], "filter")
    assert refused["Verdict"] == "note"
    assert refused["Evidence"][0].startswith(f"tcp {PORT}: rules, ")
    lab.admin("set-filter", rules=EVERYTHING)
    until("no rule", lambda: trace(there, "h1", f"self:{PORT}")[0] == 0, 10.0)


PORTS = (80, 443, 8080)
LISTEN = (
    "import selectors, socket\n"
    "s = selectors.DefaultSelector()\n"
    f"for port in {PORTS}:\n"
    "    s.register(socket.create_server(('', port)), selectors.EVENT_READ)\n"
    "while True:\n"
    "    for key, _ in s.select():\n"
    "        key.fileobj.accept()[0].close()\n"
)
TRY = (
    "import socket, sys\n"
    "for port in map(int, sys.argv[2:]):\n"
    "    try:\n"
    "        socket.create_connection((sys.argv[1], port), 2).close()\n"
    "        print(port)\n"
    "    except OSError:\n"
    "        pass\n"
)


def allowing(first: int, last: int, *protocols: int) -> dict[str, Any]:
    """A rule for a range of ports."""
    ports = {"First": first, "Last": last}
    rule: dict[str, Any] = {"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": ports}]}
    return rule | ({"IPProto": list(protocols)} if protocols else {})


@pytest.mark.parametrize(
    ("rules", "open_ports", "pings"),
    [
        ([allowing(80, 80)], {80}, True),
        (
            [allowing(443, 443, 6), allowing(8080, 8080, 17)],
            {443},
            True,
        ),  # pings ask for addresses alone
        ([allowing(0, 65535, 1)], set(), True),
        ([allowing(0, 65535, 17)], set(), True),
        ([], set(), False),
    ],
    ids=["web", "by-protocol", "ping-only", "udp-only", "nothing"],
)
def test_the_verdict_before_is_what_the_kernel_meets_after(
    lab: Lab, rules: list[dict[str, Any]], open_ports: set[int], pings: bool
) -> None:
    """Port by port, and for pings."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    server = there.spawn("ports", sys.executable, "-c", LISTEN)
    lab.admin("set-filter", rules=rules)

    def verdicts() -> tuple[set[int], bool]:
        passing = {port for port in PORTS if trace(there, "h1", f"self:{port}")[0] == 0}
        return passing, trace(there, "h1", "self", "--proto=icmp")[0] == 0

    def reality() -> tuple[set[int], bool]:
        words = map(str, PORTS)
        said = here.exec(sys.executable, "-c", TRY, str(there.ipv4), *words).stdout
        return set(map(int, said.split())), here.ping_os(there.ipv4, count=1, wait=1).lost == 0

    until("the rules", lambda: verdicts() == (open_ports, pings), 10.0)
    assert reality() == (open_ports, pings)
    server.kill()
    lab.admin("set-filter", rules=EVERYTHING)
    until("no rule", lambda: trace(there, "h1", f"self:{PORT}")[0] == 0, 10.0)


def test_explain_names_what_stops_either_way(lab: Lab) -> None:
    """Shields up here; down at the other end."""
    here = lab.hosts["h1"]
    assert here.tnet("explain", "h2").returncode == 0
    here.tnet("set", "--shields-up")
    shown = here.tnet("explain", "h2", check=False)
    assert shown.returncode == 1
    assert "shields are up" in shown.stdout
    here.tnet("set", "--shields-up=false")


def test_a_machine_that_is_down_says_so_first(lab: Lab) -> None:
    """With the command that changes it."""
    here = lab.hosts["h1"]
    here.tnet("down")
    shown = here.tnet("trace", "h2:22", check=False)
    assert shown.returncode == 1
    assert "this machine is not connected (Stopped); connect with: tnet up" in shown.stdout
    here.tnet("up")
