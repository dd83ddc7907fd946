"""The LocalAPI of a daemon that is connected answers as its description says, whatever is asked."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.lab import Lab
from integration.lab.topology import flat
from tests.support.described import STREAMS, Described

from tailnet.agent.localapi.contract.table import CONTRACT
from tailnet.agent.localapi.schema.bus import INITIAL_NETMAP, PEER_CHANGES, WATCH_ENGINE_UPDATES
from tailnet.client import Client

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SLOW = {
    "netcheck",
    "ping",
    "set-dns",
    "id-token",
    "query-feature",
    "alpha-set-device-attrs",
}  # they wait for others
LAST = {
    "set-use-exit-node-enabled",
    "prefs",
    "start",
    "logout",
    "login-interactive",
    "profiles/",
    "profiles/{id}",
    "set-expiry-sooner",
    "disconnect-control",
    "reset-auth",
}
ASKED = sorted(
    ((name, method) for name, methods in CONTRACT.items() for method in methods),
    key=lambda one: (one[0] in LAST, one),
)


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts."""
    lab = make_lab(flat("h1", "h2"))
    for host in lab.hosts.values():
        host.start()
        host.up(AUTH_KEY)
    lab.wait_complete()
    return lab


APART = {"shutdown", "pprof"}
"""What ends the daemon is asked last, and what takes a minute in test_experiments."""


@pytest.mark.parametrize(
    ("name", "method"), [one for one in ASKED if one[0] not in STREAMS | APART]
)
def test_a_live_daemon_answers_as_described(lab: Lab, name: str, method: str) -> None:
    """What changes settings comes last; the daemon is there at the end and wrote no traceback."""
    host = lab.hosts["h1"]
    described = Described(host.socket)

    @given(described.cases(name, method))
    @settings(
        max_examples=2 if name in SLOW else 10,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def ask(case: object) -> None:
        described.check(case)

    ask()
    assert host.tnet("version", "--daemon").returncode == 0
    assert "Traceback" not in host.log.read_text()


def test_the_bus_tells_of_the_map_its_changes_and_the_traffic(lab: Lab) -> None:
    """Upstream's bits: whole at the start, a peer that goes, the engine while somebody looks."""
    host = lab.hosts["h1"]
    host.up(AUTH_KEY)
    host.wait_running(20)
    watch = Client(str(host.socket)).watch(INITIAL_NETMAP | PEER_CHANGES | WATCH_ENGINE_UPDATES)
    first = json.loads(watch.next_line(10))
    # and who this machine was before reset-auth
    assert "h2" in {peer["Name"].partition(".")[0] for peer in first["NetMap"]["Peers"]}
    lab.hosts["h2"].stop()
    seen: dict[str, bool] = {"engine": False, "offline": False}
    while not all(seen.values()):
        told = json.loads(watch.next_line(20))
        seen["engine"] |= told.get("Engine") is not None
        seen["offline"] |= any(
            peer["Name"].startswith("h2.") and not peer.get("Online")
            for peer in told.get("PeersChanged") or ()
        )
    watch.close()


def test_shutdown_ends_the_daemon_as_a_signal_would(lab: Lab) -> None:
    """Last."""
    host = lab.hosts["h1"]
    Client(str(host.socket)).request("POST", "shutdown")
    assert host.running.wait(20) == 0
