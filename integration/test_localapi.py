"""The LocalAPI of a daemon that is connected answers as its description says, whatever is asked."""

import pytest
from hypothesis import HealthCheck, given, settings
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.lab import Lab
from integration.lab.topology import flat
from tests.support.described import STREAMS, Described

from tailnet.agent.localapi.contract import CONTRACT

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SLOW = {"netcheck", "ping", "set-dns"}  # they wait for others
LAST = {"prefs", "start", "logout", "login-interactive", "profiles/", "profiles/{id}"}
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


@pytest.mark.parametrize(("name", "method"), [one for one in ASKED if one[0] not in STREAMS])
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
