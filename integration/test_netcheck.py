"""``tnet netcheck`` and the home relay, over three regions that are near or far as told.

::

    h1 ── bridge: control; regions 900, 901 (two relays), 902, each with STUN; port 80
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from integration.lab.config import Relay
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

REGIONS = (900, 901, 902)
RECOVERY = 40.0  # s; a measurement comes every 20 to 26 s while a home is missing


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """h1 and h2, connected; 901 is the nearest region."""
    it = Lab(
        flat("h1", "h2", udp=False),
        relays=tuple(Relay(n, spare=n == 901) for n in REGIONS),
        web=True,
    )
    try:
        it.start()
        distances(it, 0.12, 0.0, 0.06)
        it.join()
        it.wait_complete()
        yield it
    finally:
        it.close()


def distances(lab: Lab, *delays: float, silent: bool = False) -> None:
    """Of the three regions [s]."""
    for region, delay in zip(REGIONS, delays, strict=True):
        lab.admin("set-stun", region=region, delay=delay, silent=silent)


def netcheck(lab: Lab, *flags: str) -> dict[str, Any]:
    """What ``tnet netcheck`` of h1 says."""
    said = lab.hosts["h1"].tnet("netcheck", "--format=json", *flags).stdout
    report: dict[str, Any] = json.loads(said)
    return report


def home(lab: Lab) -> str:
    """The code of h1's home region."""
    return str(lab.hosts["h1"].status()["Self"]["Relay"])


def test_everything_is_found(lab: Lab) -> None:
    """Our address, what the NAT does, and the regions in order of their distance."""
    one = lab.hosts["h1"]
    report = netcheck(lab, "--bind-port=7777")
    assert report["UDP"] is True
    assert report["GlobalV4"] == f"{one.underlay}:7777"
    assert report["MappingVariesByDestIP"] is False
    assert report["CaptivePortal"] is False
    assert report["PreferredDERP"] == 901
    latency = report["RegionLatency"]
    assert sorted(latency, key=latency.get) == ["901", "902", "900"]
    text = one.tnet("netcheck").stdout
    assert "* Nearest DERP: lab901" in text
    assert text.index("- lab901: ") < text.index("- lab902: ") < text.index("- lab900: ")
    assert home(lab) == "lab901"


def test_network_without_udp_is_measured_by_https_and_its_portal_is_found(lab: Lab) -> None:
    """The latencies are there all the same."""
    distances(lab, 0.0, 0.0, 0.0, silent=True)
    lab.admin("set-portal", captive=True)
    report = netcheck(lab)
    lab.admin("set-portal", captive=False)
    distances(lab, 0.12, 0.0, 0.06)
    assert (report["UDP"], report["IPv4CanSend"], report["CaptivePortal"]) == (False, True, True)
    assert set(report["RegionLatency"]) == {"900", "901", "902"}
    assert report["GlobalV4"] == ""


def test_second_relay_of_a_region_takes_over(lab: Lab) -> None:
    """The first one dies: home stays, and traffic goes on."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    assert one.ping_os(two.ipv4, count=2).lost == 0
    lab.admin("stop-derp", region=901)
    until(
        "a ping through the second relay",
        lambda: one.ping_os(two.ipv4, count=1, wait=1).lost == 0,
        RECOVERY,
    )
    assert home(lab) == "lab901"
    lab.admin("start-derp", region=901)


def test_dead_home_is_left_for_the_nearest_that_lives(lab: Lab) -> None:
    """Both its relays and its STUN server go; peers find the new one."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    lab.admin("set-stun", region=901, silent=True)
    lab.admin("stop-derp", region=901)
    lab.admin("stop-spare", region=901)
    until("another home", lambda: home(lab) == "lab902", RECOVERY)
    until(
        "a ping by way of it",
        lambda: one.ping_os(two.ipv4, count=1, wait=1).lost == 0,
        RECOVERY,
    )


def test_bad_addresses_are_refused_in_words(lab: Lab) -> None:
    """Exit code 1, one line."""
    failed = lab.hosts["h1"].tnet("netcheck", "--bind-address=203.0.113.9", check=False)
    assert failed.returncode == 1
    assert "cannot send from 203.0.113.9" in failed.stderr
