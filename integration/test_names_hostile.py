"""Forged answers and hostile questions to a real daemon's resolver: the truth comes through.

::

    h1 (native datapath) ─┬─ h2 (pure Python datapath)
                          └─ outside: a DNS server, and a forger who sees every question
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import ROOT, Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SERVICE = "100.100.100.100"
TRUE, FORGED = "203.0.113.5", "203.0.113.66"
BOTH = pytest.mark.parametrize("name", ["h1", "h2"])
MAX_RSS = 250 << 10  # KiB of resident memory, whatever was received


def dig(host: Host, server: str, *words: str) -> str:
    """What it prints; one try of three seconds."""
    command = ("dig", "+tries=1", "+timeout=3", f"@{server}", *words)
    return host.exec(*command, check=False).stdout


def counted(host: Host) -> dict[str, int]:
    """What the resolver dropped or refused, by reason."""
    lines = [line.split() for line in host.tnet("debug", "drops").stdout.splitlines()]
    return {words[1]: int(words[2]) for words in lines if words[:1] == ["names"]}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Both joined; every other name is asked of the server with the forger."""
    lab = make_lab(flat("h1", "h2", "outside"))
    outside = lab.hosts["outside"]
    words = (sys.executable, "-m", "integration.lab.forger", str(outside.underlay))
    outside.spawn("forger", *words, env={"PYTHONPATH": str(ROOT)})
    lab.hosts["h1"].start()
    lab.hosts["h2"].start("--datapath=reference")
    for host in (lab.hosts["h1"], lab.hosts["h2"]):
        host.up(AUTH_KEY)
    lab.admin("set_names", dns={"Resolvers": [{"Addr": str(outside.underlay)}], "Proxied": True})
    lab.admin("drop_streams")
    for host in (lab.hosts["h1"], lab.hosts["h2"]):
        until("the server", lambda h=host: TRUE in dig(h, SERVICE, "late-second.example"), 30)  # type: ignore[misc]
    return lab


@pytest.fixture(autouse=True)
def unharmed(lab: Lab) -> Iterator[None]:
    """After each test: both daemons answer, use little memory, and have logged no traceback."""
    yield
    for name in ("h1", "h2"):
        host = lab.hosts[name]
        host.running.check()
        assert f"{host.ipv4}\n" == dig(host, SERVICE, "+short", f"{name}.lab.ts.net")
        assert "Traceback" not in host.log.read_text(errors="replace")
        status = Path(f"/proc/{host.running.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        assert int(found.group(1)) < MAX_RSS


@BOTH
@pytest.mark.parametrize(
    "kind",
    ["wrong-id", "wrong-question", "wrong-case", "wrong-source", "no-answer", "late-second"],
)
def test_the_truth_wins_over_a_forger_who_is_quicker(lab: Lab, name: str, kind: str) -> None:
    """By what he cannot know, or could not in time; several times, as he would try."""
    host = lab.hosts[name]
    for number in range(3):
        said = dig(host, SERVICE, "+short", f"{kind}.{number}.example", "A")
        assert said == f"{TRUE}\n"
    if kind in ("wrong-id", "wrong-question", "wrong-case", "no-answer"):
        assert counted(host)["fwd_udp_error_txid"] >= 3


@BOTH
@pytest.mark.parametrize("server", [SERVICE, "fd7a:115c:a1e0::53"])
def test_hostile_questions_are_survived_and_counted(lab: Lab, name: str, server: str) -> None:
    """Loops, lies about counts and lengths, pieces, noise; by UDP and TCP."""
    host = lab.hosts[name]
    before = counted(host).get("respond_error_parse", 0)
    words = (sys.executable, "-m", "integration.lab.dnsnoise", server, "7", "2")
    assert host.spawn(f"noise-{name}", *words, env={"PYTHONPATH": str(ROOT)}).wait(60) == 0
    assert counted(host)["respond_error_parse"] >= before + 100
