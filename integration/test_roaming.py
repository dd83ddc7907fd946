"""A machine that changes networks under traffic: what is lost, and what is not.

::

                   ┌─ 10.99.0.1  eth0 ─┐
    bridge: servers┤                   h1        h2 ── bridge
                   └─ 10.98.0.1  eth1 ─┘

Both networks are on the bridge; the servers' namespace routes between them.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec

import pytest
from integration.conftest import MakeLab
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.net import BRIDGE
from integration.lab.process import run
from integration.lab.topology import flat
from integration.lab.translator import UPLINK
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

SECOND = "eth1"
EVERY = 0.05  # seconds between pings
LOST = 30  # pings, 1.5 s, on a busy machine; it costs 1 to 13
PATIENCE = 20.0  # seconds


@pytest.fixture(scope="module", params=["reference", "native"])
def lab(make_lab: MakeLab, request: pytest.FixtureRequest) -> Lab:
    """h1 has two uplinks, of which the first is in use."""
    if request.param == "native" and find_spec("tailnet_native") is None:
        pytest.skip("the native datapath is not built here")
    lab = make_lab(flat("h1", "h2"))
    lab.flags = (f"--datapath={request.param}",)
    here = lab.network.internet
    run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"], namespace=here)
    run(["ip", "address", "add", "10.98.0.1/24", "dev", BRIDGE], namespace=here)
    for host in lab.hosts.values():
        peer = f"peer name {SECOND} netns {host.namespace}"
        run(["ip", "-n", here, *f"link add w-{host.name} type veth {peer}".split()])
        run(["ip", "link", "set", f"w-{host.name}", "master", BRIDGE, "up"], namespace=here)
        for command in (
            f"-6 address flush dev {UPLINK} scope global",
            f"route add default via 10.99.0.1 dev {UPLINK}",
        ):
            run(["ip", *command.split()], namespace=host.namespace)
    lab.join()
    lab.wait_complete()
    return lab


def wait_direct(lab: Lab) -> None:
    """Both know a direct path."""
    one, two = lab.hosts.values()

    def direct() -> bool:
        ping = one.ping_os(two.ipv4, count=1, wait=1)
        return ping.lost == 0 and one.path_to("h2") != "" and two.path_to("h1") != ""

    until("a direct path", direct, PATIENCE, every=0.2)


def handshakes(lab: Lab) -> list[float]:
    """When both had their last one."""
    one, two = lab.hosts.values()
    found = [one.peer("h2"), two.peer("h1")]
    times = [datetime.fromisoformat(str(p["LastHandshake"])) for p in found if p is not None]
    return [at.timestamp() for at in times]


def move(host: Host, to: str, overlap: float | None) -> None:
    """Another way out; the old one goes ``overlap`` [s] later.

    ``None``: it loses its cable first, as radio does.
    """
    old, net = (UPLINK, 98) if to == SECOND else (SECOND, 99)
    number = str(host.underlay).rpartition(".")[2]
    new = (
        f"link set {to} up",
        f"address replace 10.{net}.0.{number}/24 dev {to}",
        f"route replace default via 10.{net}.0.1 dev {to}",
    )
    away = (f"link set {old} down", f"address flush dev {old} scope global")
    if overlap is None:
        _batch(host, *away, *new)
    elif not overlap:
        _batch(host, *new, *away)
    else:
        _batch(host, *new)
        time.sleep(overlap)
        _batch(host, *away)


def _batch(host: Host, *commands: str) -> None:
    run(["ip", "-batch", "-"], namespace=host.namespace, feed="\n".join(commands) + "\n")


@contextmanager
def pinging(here: Host, there: Host) -> Iterator[list[int]]:
    """Pings all along; afterwards the list has how many were lost one after the other."""
    log = here.spawn("ping", "ping", "-n", "-D", f"-i{EVERY}", "-W1", "-O", str(there.ipv4))
    until("the first answer", lambda: "icmp_seq=5 " in log.log.read_text(), PATIENCE)
    lost: list[int] = []
    yield lost
    log.stop()
    seen = [int(n) for n in re.findall(r"bytes from .* icmp_seq=(\d+) ", log.log.read_text())]
    lost.append(max(seen) - min(seen) + 1 - len(set(seen)))


@pytest.mark.parametrize("overlap", [0, 0.2, None], ids=["overlapping", "lingering", "pulled"])
@pytest.mark.parametrize("mover", ["h1", "h2"])
def test_a_move_loses_little_and_no_session(lab: Lab, mover: str, overlap: float | None) -> None:
    """There and back, pinging from h1: the one who pings moves, or the other."""
    one, two = lab.hosts.values()
    wait_direct(lab)
    before = handshakes(lab)
    for to in (SECOND, UPLINK):
        with pinging(one, two) as lost:
            move(lab.hosts[mover], to, overlap)
            time.sleep(1)
            wait_direct(lab)
        assert lost[0] <= LOST
        net = "10.98." if to == SECOND else "10.99."
        other = two if mover == "h1" else one
        assert other.path_to(mover).startswith(net)
    assert handshakes(lab) == pytest.approx(before, abs=0.5)
    for host in (one, two):
        host.running.check()
        assert "Traceback" not in host.log.read_text()
