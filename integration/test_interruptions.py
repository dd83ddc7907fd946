"""A daemon that sleeps, a link that goes away: what was established comes back by itself, in time.

::

    h1 ── bridge: control, DERP, STUN ── h2        UDP passes
"""

import os
import signal
import time

import pytest
from integration.conftest import MakeLab
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import run
from integration.lab.topology import flat
from integration.lab.translator import UPLINK
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SLEEP = 10.0  # seconds that a daemon is stopped
AWAY = 8.0  # seconds without a link
LONG_AWAY = 25.0  # seconds: longer than a session waits for an answer
AFTER_SLEEP = 3.0  # seconds until traffic flows again
AFTER_LINK = 15.0  # seconds until traffic flows again
DIRECT = 30.0  # seconds until the path is direct again


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h1 and h2 joined, with a direct path."""
    lab = make_lab(flat("h1", "h2"))
    lab.join()
    lab.wait_complete()
    _wait_direct(lab)
    return lab


def _reaches(here: Host, there: Host) -> bool:
    return here.ping_os(there.ipv4, count=1, wait=1).lost == 0


def _wait_direct(lab: Lab) -> None:
    one, two = lab.hosts["h1"], lab.hosts["h2"]

    def direct() -> bool:
        return _reaches(one, two) and one.path_to("h2") != "" and two.path_to("h1") != ""

    until("a direct path", direct, DIRECT, every=0.2)


def _link(host: Host, state: str) -> None:
    run(["ip", "link", "set", UPLINK, state], namespace=host.namespace)


def _clean(lab: Lab) -> None:
    for host in lab.hosts.values():
        host.running.check()
        assert "Traceback" not in host.log.read_text()


@pytest.mark.parametrize("sleeper", ["h1", "h2"])
def test_daemon_that_was_stopped_goes_on(lab: Lab, sleeper: str) -> None:
    """SIGSTOP for ten seconds under traffic, as a debugger or a paused machine does."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    pinging = one.spawn("ping", "ping", "-n", "-q", "-i0.2", "-c100", str(two.ipv4))
    pid = lab.hosts[sleeper].running.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(SLEEP)
    finally:
        os.kill(pid, signal.SIGCONT)
    pinging.kill()
    until("traffic after the sleep", lambda: _reaches(one, two), AFTER_SLEEP)
    assert _reaches(two, one)
    until("both to be online", lambda: lab.online() == {"h1", "h2"}, DIRECT)
    _wait_direct(lab)
    _clean(lab)


@pytest.mark.parametrize("away", [AWAY, LONG_AWAY])
def test_link_that_was_down_is_used_again(lab: Lab, away: float) -> None:
    """A cable pulled and put back: traffic, control and the direct path return by themselves."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    pinging = one.spawn("ping", "ping", "-n", "-q", "-i0.2", "-c400", str(two.ipv4))
    _link(one, "down")
    time.sleep(away)
    _link(one, "up")
    until("traffic after the outage", lambda: _reaches(one, two), AFTER_LINK)
    until("traffic to it", lambda: _reaches(two, one), AFTER_LINK)
    pinging.kill()
    until("both to be online", lambda: lab.online() == {"h1", "h2"}, DIRECT * 2)
    _wait_direct(lab)
    _clean(lab)


def test_link_that_was_down_at_the_start(lab: Lab) -> None:
    """A daemon that starts without a network joins when there is one."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    assert one.stop() == 0
    _link(one, "down")
    one.start()
    time.sleep(3)
    _link(one, "up")
    until("it to be Running", lambda: one.status()["BackendState"] == "Running", DIRECT)
    until("traffic", lambda: _reaches(one, two), AFTER_LINK)
    _clean(lab)


def test_down_and_up_leaves_nobody_with_a_dead_session(lab: Lab) -> None:
    """Who talked to us before ``down`` is told after ``up``, and need not find out in 15 s."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    _wait_direct(lab)
    one.tnet("down")
    one.tnet("up")
    one.wait_running()
    until("traffic to it", lambda: _reaches(two, one), AFTER_SLEEP)
    _clean(lab)
