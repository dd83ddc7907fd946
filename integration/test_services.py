"""Names of the tailnet at 100.100.100.100 and fd7a:115c:a1e0::53, asked with ``dig``.

::

    h1 (native datapath) ── h2 (pure Python datapath)
"""

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

SERVERS = ("100.100.100.100", "fd7a:115c:a1e0::53")
DOMAIN = "lab.ts.net"
BOTH = pytest.mark.parametrize("name", ["h1", "h2"])
EVERYWHERE = pytest.mark.parametrize("server", SERVERS)
TRANSPORTS = pytest.mark.parametrize("transport", ["+notcp", "+tcp"])


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Both joined."""
    lab = make_lab(flat("h1", "h2"))
    lab.hosts["h1"].start()
    lab.hosts["h2"].start("--datapath=reference")
    for host in lab.hosts.values():
        host.up(AUTH_KEY)
    lab.wait_complete()
    return lab


def dig(host: Host, server: str, *words: str) -> str:
    """What it prints; one try of three seconds."""
    command = ("dig", "+tries=1", "+timeout=3", f"@{server}", *words)
    return host.exec(*command, check=False).stdout


@BOTH
@EVERYWHERE
@TRANSPORTS
def test_a_peer_by_its_name(lab: Lab, name: str, server: str, transport: str) -> None:
    """Address, nobody, and the other way round; by UDP and TCP, both families."""
    here = lab.hosts[name]
    for there in lab.hosts.values():
        full = f"{there.name}.{DOMAIN}"
        said = dig(here, server, transport, "+short", full)
        assert said == f"{there.ipv4}\n"
        said = dig(here, server, transport, "+short", "-x", str(there.ipv6))
        assert said == f"{full}.\n"
    assert "status: NXDOMAIN" in dig(here, server, transport, f"nobody.{DOMAIN}")


@BOTH
@EVERYWHERE
def test_metrics_at_the_service_address(lab: Lab, name: str, server: str) -> None:
    """As at upstream's web client; not for whom this machine is only the way."""
    host = "[fd7a:115c:a1e0::53]" if ":" in server else server
    here = lab.hosts[name]
    said = here.exec("curl", "-sS", "--max-time", "5", f"http://{host}/metrics").stdout
    assert "tailscaled_inbound_packets_total" in said
    status = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5")
    assert here.exec(*status, f"http://{host}/localapi/v0/status").stdout == "404"
    assert here.exec(*status, "-H", "Host: evil.example", f"http://{host}/metrics").stdout == "403"
    address = "::1" if ":" in server else "127.0.0.7"
    foreign = here.exec(*status, "--interface", address, f"http://{host}/metrics", check=False)
    assert foreign.stdout == "000"


@BOTH
@EVERYWHERE
def test_names_of_others_are_not_ours(lab: Lab, name: str, server: str) -> None:
    """No answer is made up."""
    said = dig(lab.hosts[name], server, "example.com")
    assert "status: NOERROR" not in said
    assert "status: " in said


@BOTH
@EVERYWHERE
def test_the_services_answer_pings(lab: Lab, name: str, server: str) -> None:
    """As upstream's do."""
    assert lab.hosts[name].ping_os(server, count=2).lost == 0


@BOTH
@EVERYWHERE
def test_other_tcp_ports_refuse(lab: Lab, name: str, server: str) -> None:
    """At once, without waiting."""
    url = f"http://[{server}]:81/" if ":" in server else f"http://{server}:81/"
    said = lab.hosts[name].exec("curl", "-sS", "--max-time", "5", url, check=False)
    assert "refused" in said.stderr or "Couldn't connect" in said.stderr


@BOTH
def test_pipelined_queries_on_one_connection(lab: Lab, name: str) -> None:
    """Two questions, one connection, two answers."""
    there = lab.hosts["h2" if name == "h1" else "h1"]
    full = f"{there.name}.{DOMAIN}"
    said = dig(lab.hosts[name], SERVERS[0], "+tcp", "+keepopen", "+short", full, full)
    assert said == f"{there.ipv4}\n" * 2


@BOTH
def test_nothing_of_it_was_lost_or_went_to_a_peer(lab: Lab, name: str) -> None:
    """The route is there, and no counter of these packets moved."""
    host = lab.hosts[name]
    assert SERVERS[0] in host.exec("ip", "route", "show", "table", "52").stdout
    drops = host.tnet("debug", "drops").stdout
    assert "_service" not in drops
