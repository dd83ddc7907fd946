"""A gateway that means no good: nothing of what it says is believed, and it costs little.

::

    h1 ── router: a liar, then miniupnpd ── segment: control, DERP, STUN
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.bad_gateway import CONTROL, FAULTS
from integration.lab.host import Host
from integration.lab.lab import ROOT, Lab
from integration.lab.miniupnpd import missing
from integration.lab.process import Process
from integration.lab.router import INSIDE, LAN, OUTSIDE, Router
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

OTHER = INSIDE + 8  # another machine of the home network, as far as anybody knows
DESCRIPTIONS = {"slow", "endless", "redirect", "entities", "deep"}
MAX_GROWTH = 16 << 10  # KiB of resident memory
MAX_LINES = 40  # of the log, from one fault
PATIENCE = 12.0  # seconds for a round of questions


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Nobody has joined yet."""
    if why := missing():
        cannot(why)
    return make_lab(flat("h1", "router"))


@pytest.fixture(scope="module")
def router(lab: Lab) -> Iterator[Router]:
    """It maps nothing; h1 is behind it and connected."""
    router = Router(lab.hosts["router"], lab.hosts["h1"], [])
    router.place.exec("ip", "address", "add", f"{OTHER}/32", "dev", LAN)
    lab.join("h1")
    until("h1 to be connected", lambda: "h1" in lab.online(), 20)
    yield router
    router.stop()


def ask_again(host: Host) -> None:
    """A node that comes up anew asks for a port anew."""
    host.tnet("down")
    host.tnet("up")


def rss(host: Host) -> int:
    """KiB of memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{host.running.pid}/status").read_text())
    assert found is not None
    return int(found.group(1))


def addresses(host: Host) -> str:
    """Own addresses that it tells."""
    return " ".join(host.status()["Self"]["Addrs"] or ())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_gateway_that_lies_is_not_believed(lab: Lab, router: Router, fault: str) -> None:
    """No address of it is told, nobody is led elsewhere, and an honest one is asked next."""
    host = lab.hosts["h1"]
    ignored_before = ignored(host)
    log_before, rss_before = len(host.log.read_text().splitlines()), rss(host)
    command = [sys.executable, "-m", "integration.lab.bad_gateway", str(INSIDE), str(OTHER), fault]
    log = router.place.directory / "bad_gateway.log"
    log.unlink(missing_ok=True)
    liar = Process("a bad gateway", command, log, namespace=router.place.namespace, directory=ROOT)
    try:
        until("the gateway", lambda: "ready" in log.read_text(), 10)
        ask_again(host)
        met = "described" if fault in DESCRIPTIONS else "asked"
        until("a question", lambda: met in log.read_text(), PATIENCE)
        said = json.loads(host.tnet("netcheck", "--format=json").stdout)
        until("the last description to be given up", lambda: not fetching(host), PATIENCE)
        if fault not in DESCRIPTIONS | {"elsewhere"}:
            until("it to be counted", lambda: ignored(host) > ignored_before, PATIENCE)
        told = addresses(host)
    finally:
        liar.stop()
    host.running.check()
    assert said["PMP"] is False or fault in {"huge", "lies"}
    assert "6.6.6.6" not in told
    assert "trapped" not in log.read_text()
    assert rss(host) - rss_before < MAX_GROWTH
    lines = host.log.read_text().splitlines()[log_before:]
    assert len(lines) < MAX_LINES
    assert not [line for line in lines if "Traceback" in line or "\x1b" in line]
    router.reset()
    router.start()
    until("a mapping by the honest one", router.mappings, 20)
    until("its address to be told", lambda: str(OUTSIDE) in addresses(host), 10)
    router.stop()
    router.reset()


def ignored(host: Host) -> int:
    """Answers that made no sense, so far."""
    said = host.tnet("debug", "portmap").stdout
    return sum(map(int, re.findall(r"^ignored: .* (\d+)$", said, re.MULTILINE)))


def fetching(host: Host) -> bool:
    """Whether something is being fetched from the gateway."""
    return str(INSIDE) in host.exec("ss", "-tnH", "dst", f"{INSIDE}:{CONTROL}").stdout
