"""What ``TS_DEBUG_ENABLE_PMTUD`` and the attribute ``peer-mtu-enable`` find out about a path.

::

    h1 ── bridge: control, DERP, STUN ── h2        links of 1500 bytes, then one of 1420
"""

import pytest
from integration.conftest import MakeLab
from integration.lab.host import PORT, Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until
from integration.test_paths import path

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

TIMEOUT = 20.0  # seconds for a path to be known


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Joined; h2 may not look, h1 leaves that to control."""
    lab = make_lab(flat("h1", "h2"))
    lab.hosts["h2"].variables["TS_DEBUG_ENABLE_PMTUD"] = "0"
    lab.join()
    lab.wait_complete()
    return lab


def wire_mtu(here: Host, there: Host) -> int:
    """The largest packet that was answered, from the peer's address on the segment."""
    here.ping_os(there.ipv4, count=1, wait=1)
    found = path(here, there)["Candidates"]
    return max(int(c["WireMTU"]) for c in found if c["Addr"] == f"{there.underlay}:{PORT}")


def test_nobody_looks_by_himself(lab: Lab) -> None:
    """As upstream; nor does control overrule what the user chose."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    lab.admin("set-attributes", name="h2", attributes=["peer-mtu-enable"])
    assert wire_mtu(one, two) == wire_mtu(two, one) == 0


def test_the_largest_packet_that_passes_is_known(lab: Lab) -> None:
    """1500 bytes on Ethernet; 8000 and 9000 are refused by the kernel, which disturbs nothing."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    lab.admin("set-attributes", name="h1", attributes=["peer-mtu-enable"])
    until("the MTU of the path", lambda: wire_mtu(one, two) == 1500, TIMEOUT)
    assert path(one, two)["Kind"] == "direct"
    assert "packets of 1500 bytes pass" in one.tnet("path", two.name).stdout
    assert wire_mtu(two, one) == 0


def test_a_narrow_link_is_found_out(lab: Lab) -> None:
    """After a restart, behind a link of 1420 bytes: 1400 pass, 1500 do not."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    lab.admin("set-attributes", name="h1", attributes=[])
    until("nothing is looked for again", lambda: wire_mtu(one, two) == 0, TIMEOUT)
    one.variables["TS_DEBUG_ENABLE_PMTUD"] = "1"
    one.exec("ip", "link", "set", "eth0", "mtu", "1420")
    one.stop()
    one.start()
    one.wait_running()
    until("the MTU of the path", lambda: wire_mtu(one, two) == 1400, TIMEOUT)
    assert one.ping_os(two.ipv4).lost == 0
