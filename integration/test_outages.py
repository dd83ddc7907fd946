"""Servers restarted or away, daemons killed: what was established survives, the rest comes back.

::

    h1 ── bridge: control, DERP, STUN ── h2        UDP from h1 to h2: dropped, so all is relayed
"""

import pytest
from integration.lab.host import parse_ping
from integration.lab.lab import Lab
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

OUTAGE = 30.0  # seconds without control
INTERVAL = 0.2  # seconds between pings meanwhile
RECOVERY = 30.0  # seconds until everything is as before


def test_no_ping_is_lost_while_control_is_away(relayed: Lab) -> None:
    """Control away for 30 s and back: traffic goes on, and the session is there again."""
    one, two = relayed.hosts["h1"], relayed.hosts["h2"]
    assert one.ping_os(two.ipv4).lost == 0
    count = int(OUTAGE / INTERVAL)
    relayed.admin("stop-control")
    pinging = one.spawn("ping", "ping", "-n", "-q", f"-c{count}", f"-i{INTERVAL}", str(two.ipv4))
    pinging.wait(OUTAGE + 20)
    relayed.admin("start-control")
    result = parse_ping(pinging.log.read_text())
    assert (result.sent, result.lost) == (count, 0)
    until("both to be back", lambda: relayed.online() == {"h1", "h2"}, RECOVERY + OUTAGE)
    assert one.ping_os(two.ipv4).lost == 0


def test_control_restarted_is_not_noticed_by_traffic(relayed: Lab) -> None:
    """A restart loses no ping, and both nodes are connected again with the same addresses."""
    one, two = relayed.hosts["h1"], relayed.hosts["h2"]
    before = (one.ipv4, two.ipv4)
    pinging = one.spawn("ping", "ping", "-n", "-q", "-c25", f"-i{INTERVAL}", str(two.ipv4))
    relayed.admin("restart-control")
    pinging.wait(20)
    assert parse_ping(pinging.log.read_text()).lost == 0
    until("both to be back", lambda: relayed.online() == {"h1", "h2"}, RECOVERY)
    assert (one.ipv4, two.ipv4) == before


def test_relay_restarted_recovers(relayed: Lab) -> None:
    """All traffic goes through the relay; when it is back, so is the traffic, by itself."""
    one, two = relayed.hosts["h1"], relayed.hosts["h2"]
    assert one.ping_os(two.ipv4).lost == 0
    relayed.admin("restart-derp", region=900)
    until(
        "a ping through the new relay",
        lambda: one.ping_os(two.ipv4, count=1, wait=1).lost == 0,
        RECOVERY,
    )
    for here, there in ((one, two), (two, one)):
        assert here.ping_os(there.ipv4, count=5).lost == 0


def test_killed_daemon_comes_back_as_the_same_node(relayed: Lab) -> None:
    """After SIGKILL and a plain start: same key, same address, Running, reachable."""
    one, two = relayed.hosts["h1"], relayed.hosts["h2"]
    before = one.status()["Self"]
    one.kill9()
    one.start()
    one.wait_running(RECOVERY)
    after = one.status()["Self"]
    assert after["PublicKey"] == before["PublicKey"]
    assert after["TailscaleIPs"] == before["TailscaleIPs"]
    for here, there in ((two, one), (one, two)):
        until(
            f"{here.name} to reach {there.name}",
            lambda h=here, t=there: h.ping_os(t.ipv4, count=1, wait=1).lost == 0,  # type: ignore[misc]
            RECOVERY,
        )
