"""What other programs remove of the tunnel on a real host is put back, and what they do is seen.

::

    h1 ── bridge: control, DERP, STUN ── h2        UDP passes
"""

import json
import re
import sys

import pytest
from integration.conftest import MakeLab
from integration.lab.host import DEVICE, PORT, Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SOON = 10.0  # seconds; a deadline on a busy machine: it takes 0.3
DIRECT = 20.0  # seconds


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h1 and h2 joined."""
    lab = make_lab(flat("h1", "h2"))
    lab.join()
    lab.wait_complete()
    return lab


def kernel(host: Host) -> tuple[str, ...]:
    """Rules, table 52, addresses and flags of the device; not the times that count down."""
    said = [
        host.exec("ip", *command.split(), check=False).stdout
        for command in ("rule", "-6 rule", "route show table 52", "-6 route show table 52")
    ]
    device = host.exec("ip", "-br", "address", "show", "dev", DEVICE).stdout
    return (*said, " ".join(w for w in device.split() if not w.startswith("fe80:")))


@pytest.mark.parametrize(
    "removal",
    [
        "rule del pref 5270",
        "-6 rule del pref 5210",
        "route flush table 52",
        "-6 route flush table 52",
        f"address flush dev {DEVICE} scope global",
        f"link set {DEVICE} down",
        f"link set {DEVICE} mtu 1000",  # IPv6 goes with it
    ],
)
def test_what_is_removed_comes_back(lab: Lab, removal: str) -> None:
    """Exactly as it was; packets flow again."""
    one, two = lab.hosts.values()
    until("traffic", lambda: one.ping_os(two.ipv4, count=1, wait=1).lost == 0, DIRECT)
    before = kernel(one)
    one.exec("ip", *removal.split())
    until(f"repair after ip {removal}", lambda: kernel(one) == before, SOON, every=0.1)
    until("traffic", lambda: one.ping_os(two.ipv4, count=1, wait=1).lost == 0, SOON)


def test_the_monitor_saw_it(lab: Lab) -> None:
    """And says so in words."""
    said = lab.hosts["h1"].tnet("debug", "netmon").stdout
    assert "eth0" in said
    assert DEVICE not in said
    assert "tunnel: something of ours went" in said


def sockets(host: Host) -> set[str]:
    """The kernel's numbers of the UDP sockets at the daemon's port."""
    said = host.exec("ss", "-Hulne", f"sport = :{PORT}").stdout
    return set(re.findall(r"\bino:(\d+)", said))


def test_a_rebind_keeps_port_and_session(lab: Lab) -> None:
    """By hand: other sockets, the path is asked for anew, and no handshake."""
    one, two = lab.hosts.values()

    def direct() -> bool:
        return one.ping_os(two.ipv4, count=1, wait=1).lost == 0 and one.path_to("h2") != ""

    def shaken() -> list[object]:
        return [peer["LastHandshake"] for peer in (one.peer("h2"), two.peer("h1")) if peer]

    def changes() -> int:
        return int(json.loads(one.tnet("path", "--json", "h2").stdout)["Switches"])

    until("a direct path", direct, DIRECT)
    bound, session, before = sockets(one), shaken(), changes()
    one.tnet("debug", "rebind")
    until("a direct path", direct, DIRECT)
    assert bound
    assert not bound & sockets(one)
    assert shaken() == session
    assert changes() > before
    one.tnet("debug", "restun")
    assert two.path_to("h1").endswith(f":{PORT}")
    assert one.ping_os(two.ipv4).lost == 0


def test_a_port_that_is_taken_is_told_and_taken_back(lab: Lab) -> None:
    """The firewall's hole, the endpoints and the peers follow the port both times."""
    one, two = lab.hosts.values()
    assert one.stop() == 0
    hold = f"import socket,time; s = socket.socket(2, 2); s.bind(('', {PORT})); time.sleep(99)"
    foreign = one.spawn("foreign", sys.executable, "-c", hold)
    until("the other program", lambda: f":{PORT}" in one.exec("ss", "-Huln").stdout, SOON)
    one.start()
    one.wait_running()

    def direct_at(port: int) -> bool:
        arrives = two.ping_os(one.ipv4, count=1, wait=1).lost == 0
        return arrives and two.path_to("h1").endswith(f":{port}")

    until("a direct path by the next port", lambda: direct_at(PORT + 1), DIRECT)
    assert f"UDP port {PORT} is taken" in str(one.status()["Health"])
    foreign.kill()
    one.tnet("debug", "rebind")
    until("a direct path by the port of --port", lambda: direct_at(PORT), DIRECT)
    until("no complaint", lambda: "is taken" not in str(one.status()["Health"]), SOON)


def test_a_router_without_port_mapping_is_said_to_have_none(lab: Lab) -> None:
    """Asked now."""
    said = lab.hosts["h1"].tnet("debug", "portmap").stdout
    assert "mapped to  nothing" in said
