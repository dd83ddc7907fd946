"""Metrics of live daemons: what was sent is counted, by the way it took."""

import re

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from tests.agent.metrics.test_metrics import Read, one, read

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

PINGS, SIZE = 5, 1000 + 28  # bytes of IP


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts with a direct path."""
    lab = make_lab(flat("h1", "h2"))
    for host in lab.hosts.values():
        host.start()
        host.up(AUTH_KEY)
    lab.wait_complete()
    return lab


def metrics(host: Host) -> Read:
    """As ``tnet metrics`` prints them."""
    return read(host.tnet("metrics").stdout)


def test_packets_of_a_direct_path_are_counted_as_such(lab: Lab) -> None:
    """On both sides, to the byte, with the peer's path, latency and handshakes."""
    h1, h2 = lab.hosts["h1"], lab.hosts["h2"]
    h1.tnet("ping", str(h2.ipv4))
    before = metrics(h1), metrics(h2)
    h1.exec("ping", "-c", str(PINGS), "-i", "0.05", "-s", "1000", str(h2.ipv4))
    after = metrics(h1), metrics(h2)
    for was, now in zip(before, after, strict=True):
        for name, grown in (("packets", PINGS), ("bytes", PINGS * SIZE)):
            for direction in ("inbound", "outbound"):
                metric, path = f"tailscaled_{direction}_{name}_total", {"path": "direct_ipv4"}
                assert one(now, metric, **path) - one(was, metric, **path) == grown
    mine, peer = after[0], next(p for p in h1.status()["Peer"].values())["DNSName"].rstrip(".")
    assert one(mine, "tailnetd_peer_path", peer=peer, path="direct") == 1
    assert 0 < one(mine, "tailnetd_peer_latency_seconds", peer=peer) < 1
    assert one(mine, "tailnetd_peer_handshakes_total", peer=peer) >= 1
    assert one(mine, "tailnetd_peer_sent_bytes_total", peer=peer) >= PINGS * SIZE
    assert one(mine, "tailnetd_peers", path="direct") == 1
    assert one(mine, "tailnetd_state", state="Running") == 1
    assert one(mine, "tailnetd_control_up") == 1
    assert one(mine, "tailscaled_home_derp_region_id") > 0
    assert one(mine, "tailnetd_derp_connections") >= 1


def test_what_is_offered_and_what_shows_is_counted(lab: Lab) -> None:
    """Routes and health; and refused packets by reason."""
    h1, h2 = lab.hosts["h1"], lab.hosts["h2"]
    h1.tnet("set", "--advertise-routes=10.77.0.0/16,10.78.0.0/16", "--shields-up")
    h2.exec("ping", "-c", "3", "-i", "0.05", "-W", "1", str(h1.ipv4), check=False)
    now = metrics(h1)
    assert one(now, "tailscaled_advertised_routes") == 2
    assert one(now, "tailscaled_inbound_dropped_packets_total", reason="acl") >= 3
    assert one(now, "tailnetd_dropped_total", layer="packets", reason="in_denied") >= 3
    shown = {name for name, _ in now if name == "tailnetd_health"}
    assert bool(shown) == (one(now, "tailscaled_health_messages", type="warning") > 0)
    h1.tnet("set", "--advertise-routes=", "--shields-up=false")


def test_the_process_is_counted_for_root_alone(lab: Lab) -> None:
    """What it says is believable; the rest may be read by anybody."""
    host = lab.hosts["h1"]
    status, text = host.ask("GET", "metrics")
    assert status == 200
    now = read(text)
    assert 10 << 20 < one(now, "process_resident_memory_bytes") < 1 << 30
    assert one(now, "process_open_fds") > 10
    assert one(now, "process_cpu_seconds_total") > 0
    assert not re.search(r"privkey|[0-9a-f]{64}", text)


def test_the_debug_site_of_a_live_daemon(lab: Lab) -> None:
    """``--debug``: health follows the state; no key is anywhere."""
    host = lab.hosts["h2"]
    host.stop()
    host.start("--debug=:8099")
    host.wait_running(20)
    told = host.exec("curl", "-sS", "-w", "%{http_code}", "http://localhost:8099/healthz").stdout
    assert told.startswith("Running\n"), told
    assert told.endswith("200")
    text = ""
    for page in ("", "metrics", "debug/metrics", "debug/tasks", "debug/profile?seconds=0.2"):
        text += host.exec("curl", "-sSf", f"http://127.0.0.1:8099/{page}").stdout
    assert "tailscaled_home_derp_region_id" in text
    assert not re.search(r"priv(ate)?key|[0-9a-f]{64}|tskey", text)
    host.tnet("down")
    told = host.exec("curl", "-sS", "-w", "%{http_code}", "http://localhost:8099/healthz").stdout
    assert told.startswith("Stopped\n"), told
    assert told.endswith("503")
