"""Garbage from the network, a relay or control: dropped, survived, and never a traceback.

::

    h1 ── bridge: control, DERP, STUN ── h2        UDP passes
            │
           h3 (sends garbage; has no daemon)
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.host import PORT, Host, parse_ping
from integration.lab.lab import ROOT, Lab
from integration.lab.topology import flat
from integration.lab.translator import UPLINK
from integration.lab.vandal import CONTROL_FAULTS, RELAY_FAULTS, RELAY_LIES
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

DATAGRAMS = 6000
SPRAY_SECONDS = 6.0
CONTROL = 60.0  # seconds until a node is connected again after control went mad
MAX_RSS = 250 << 10  # KiB of resident memory, whatever was received
AMPLIFICATION = 3  # times what somebody sent who is nobody
IP_UDP = 28  # bytes of headers
MAX_LINES = 12  # of the log, from one fault that happened twice


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h1 and h2 joined, with a direct path; h3 without a daemon."""
    lab = make_lab(flat("h1", "h2", "h3"))
    lab.join("h1", "h2")
    lab.wait_complete()
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    until("a first ping", lambda: one.ping_os(two.ipv4, count=1).lost == 0, 10)
    until("a direct path", lambda: one.path_to("h2"), 20)
    return lab


@pytest.fixture(autouse=True)
def unharmed(lab: Lab) -> Iterator[None]:
    """After each test: both daemons run, use little memory, and have logged no traceback."""
    yield
    for name in ("h1", "h2"):
        host = lab.hosts[name]
        host.running.check()
        assert "Traceback" not in host.log.read_text(errors="replace")
        assert _rss(host) < MAX_RSS
        assert "\x1b" not in host.log.read_text(errors="replace")


def _rss(host: Host) -> int:
    status = Path(f"/proc/{host.running.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1))


def assert_counted(host: Host) -> None:
    """Each kind of garbage is counted where it was recognised."""
    drops = {tuple(line.split()[:2]) for line in host.tnet("debug", "drops").stdout.splitlines()}
    assert ("packets", "in_unknown") in drops, drops
    assert {layer for layer, _ in drops} >= {"packets", "handshakes", "disco"}, drops


def overhear(here: Host, there: Host) -> str:
    """Two disco datagrams that ``here`` sends to ``there``, a line of hex each."""
    disco = f"dst host {there.underlay} and udp[8:4] = 0x5453f09f"
    here.ping_os(there.ipv4, count=1)
    said = here.exec("tcpdump", "-i", UPLINK, "-n", "-c", "2", "-x", disco).stdout
    packets = re.sub(r"^\t0x\w+:", "", said, flags=re.MULTILINE)
    found = re.findall(r"length \d+\n((?: +[0-9a-f ]+\n?)+)", packets)
    return "\n".join("".join(each.split())[2 * IP_UDP :] for each in found)


def _traffic(host: Host) -> tuple[int, int]:
    """Bytes sent and received by the link of a host without a daemon."""
    (link,) = json.loads(host.exec("ip", "-j", "-s", "link", "show", UPLINK).stdout)
    return link["stats64"]["tx"]["bytes"], link["stats64"]["rx"]["bytes"]


def _spray(lab: Lab, address: str, name: str) -> None:
    target = lab.hosts["h1"]
    key = str(target.status()["Self"]["PublicKey"]).removeprefix("nodekey:")
    spray = [sys.executable, "-m", "integration.lab.spray", address, PORT, DATAGRAMS, SPRAY_SECONDS]
    environment = {"PYTHONPATH": str(ROOT)}
    heard = target.directory / "heard"
    heard.write_text(overhear(lab.hosts["h2"], target))
    words = [*(str(word) for word in spray), key, str(heard)]
    before = _traffic(lab.hosts["h3"])
    spraying = lab.hosts["h3"].spawn(f"spray-{name}", *words, env=environment)
    count = int(SPRAY_SECONDS / 0.1)
    pinging = lab.hosts["h2"].spawn(
        "ping", "ping", "-n", "-q", f"-c{count}", "-i0.1", "-W2", str(target.ipv4)
    )
    assert spraying.wait(SPRAY_SECONDS + 20) == 0
    pinging.wait(SPRAY_SECONDS + 20)
    sent, received = (
        now - then for now, then in zip(_traffic(lab.hosts["h3"]), before, strict=True)
    )
    assert sent > 100 * DATAGRAMS
    assert 0 < received <= AMPLIFICATION * sent
    result = parse_ping(pinging.log.read_text())
    assert (result.sent, result.lost) == (count, 0)
    assert lab.hosts["h2"].path_to("h1") == f"{target.underlay}:{PORT}"


@pytest.mark.parametrize("address", ["10.99.0.11", "fd99::11"])
def test_garbage_datagrams_lose_no_ping(lab: Lab, address: str) -> None:
    """Six thousand of fifteen kinds in six seconds, while another host pings.

    Among them real pings of that host, replayed.  The answers are less than three times as much.
    """
    before = len(lab.hosts["h1"].log.read_text().splitlines())
    _spray(lab, address, address.replace(":", "-"))
    said = lab.hosts["h1"].log.read_text().splitlines()[before:]
    assert len(said) < MAX_LINES, said
    assert_counted(lab.hosts["h1"])


@pytest.mark.parametrize("fault", [*RELAY_FAULTS, *RELAY_LIES])
def test_mad_relay_is_survived(lab: Lab, fault: str) -> None:
    """Direct traffic goes on, and the relay is used again when it is well."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    before = len(one.log.read_text().splitlines())
    lab.admin("stop-derp", region=900)
    lab.admin("start-derp", region=900, fault=fault)
    until("the relay to misbehave twice", lambda: lab.admin("mischief") >= 2, 20)
    assert one.ping_os(two.ipv4).lost == 0
    said = one.log.read_text().splitlines()[before:]
    assert len(said) < MAX_LINES, said
    lab.admin("restart-derp", region=900)


@pytest.mark.parametrize("fault", CONTROL_FAULTS)
def test_mad_control_is_survived(lab: Lab, fault: str) -> None:
    """Traffic goes on, the log says so in few lines, and the node tries again until all is well."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    before = len(one.log.read_text().splitlines())
    lab.admin("stop-control")
    lab.admin("start-control", fault=fault)
    until("control to misbehave a few times", lambda: lab.admin("mischief") >= 3, CONTROL)
    assert one.ping_os(two.ipv4).lost == 0
    said = one.log.read_text().splitlines()[before:]
    assert 1 <= len(said) < MAX_LINES, said
    lab.admin("restart-control")
    until("both to be back", lambda: lab.online() >= {"h1", "h2"}, CONTROL)
