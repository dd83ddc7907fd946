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
        return shown.returncode == 0 and "Tried: connected" in shown.stdout

    until("a connection", live, 10.0)
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
    assert (shown.returncode, "Tried: connected" in shown.stdout) == (1, False)
    refused = step(trace(here, f"h2:{PORT}")[1], "filter")
    assert refused["Verdict"] == "note"
    assert refused["Evidence"][0].startswith(f"tcp {PORT}: rules, ")
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
