"""A daemon that is gone leaves the machine as it was.

::

    h1 ── bridge: control, DERP, STUN ── h2
"""

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import DEVICE, Host
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]

VIEWS = (
    "ip -4 rule",
    "ip -6 rule",
    "ip -4 route show table all",
    "ip -6 route show table all",
    "ip -o link",
    "ip -o address",
    "nft list ruleset",
    "cat /etc/resolv.conf",
    "find /etc /run -newer /etc/hosts",
    "sysctl -a -r ^net.(ipv[46].(conf|ip_forward|ping|icmp)|core)",
)


def configuration(host: Host) -> dict[str, list[str]]:
    """What the kernel says of rules, routes, links, addresses, firewall and settings."""
    return {view: sorted(host.exec(*view.split()).stdout.splitlines()) for view in VIEWS}


@pytest.fixture(scope="module")
def fresh(make_lab: MakeLab) -> Host:
    """A host where nothing has run yet; its peer is up."""
    lab = make_lab(flat("h1", "h2"))
    lab.join("h2")
    host = lab.hosts["h1"]
    # Link-local addresses take a second to settle, and would look like a change.
    until("addresses", lambda: "tentative" not in host.exec("ip", "-o", "address").stdout, 10)
    return host


def test_after_a_stop(fresh: Host) -> None:
    """SIGTERM: exit code 0, and rules, routes, addresses, device and socket are gone."""
    before = configuration(fresh)
    fresh.start()
    fresh.up(AUTH_KEY)
    during = configuration(fresh)
    assert any(DEVICE in line for line in during["ip -o link"])
    assert any("lookup 52" in line for line in during["ip -4 rule"])
    assert "table inet tailnetd {" in during["nft list ruleset"]
    assert any("src_valid_mark = 1" in line for line in during[VIEWS[-1]])
    assert fresh.stop() == 0
    assert configuration(fresh) == before
    assert not fresh.socket.exists()


def test_after_sigkill_and_cleanup(fresh: Host) -> None:
    """``tailnetd --cleanup`` removes what a killed daemon could not."""
    before = configuration(fresh)
    fresh.start()
    fresh.wait_running()
    fresh.kill9()
    assert fresh.socket.exists()
    cleaned = fresh.exec(*fresh.daemon_command("--cleanup"))
    assert cleaned.stderr == ""
    done = cleaned.stdout.splitlines()
    assert "removed firewall table inet tailnetd" in done
    assert {line.split()[0] for line in done} <= {"removed", "restored"}
    assert "removed removed" not in cleaned.stdout
    assert configuration(fresh) == before
    assert not fresh.socket.exists()


def test_after_sigkill_the_next_start_is_as_good(fresh: Host) -> None:
    """Without ``--cleanup``: the next daemon takes over what is left, and removes it in the end."""
    before = configuration(fresh)
    fresh.start()
    fresh.wait_running()
    during = configuration(fresh)["ip -4 rule"]
    fresh.kill9()
    fresh.start()
    fresh.wait_running()
    assert configuration(fresh)["ip -4 rule"] == during
    assert fresh.stop() == 0
    assert configuration(fresh) == before


def test_cleanup_of_a_clean_machine_changes_nothing(fresh: Host) -> None:
    """It may be run at any time, twice too."""
    before = configuration(fresh)
    for _ in range(2):
        fresh.exec(*fresh.daemon_command("--cleanup"))
    assert configuration(fresh) == before
