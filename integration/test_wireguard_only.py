"""A host of plain WireGuard with several addresses, one of them nobody's.

::

    h1 ── bridge: control ── wg: 10.99.0.12 and .150, wireguard-go

Control tells 10.99.0.200 too.
"""

import shutil

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.foreign import WG_PORT, WireGuard
from integration.lab.lab import Lab
from integration.lab.process import run
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SECOND, NOBODY = "10.99.0.150", "10.99.0.200"
GONE = """\
table ip gone {
	chain input {
		type filter hook input priority 0;
		ip daddr %s drop
	}
}
"""
TIMEOUT = 30.0  # seconds for a way that works


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h1 is joined."""
    if not (shutil.which("wireguard-go") and shutil.which("wg")):
        cannot("wireguard-go is not installed")
    lab = make_lab(flat("h1", "wg"))
    lab.join("h1")
    return lab


@pytest.fixture(scope="module")
def plain(lab: Lab) -> WireGuard:
    """The host, told to control with three addresses."""
    lab.hosts["wg"].exec("ip", "address", "add", f"{SECOND}/24", "dev", "eth0")
    plain = WireGuard(lab, lab.hosts["wg"], lab.hosts["h1"])
    plain.more = (NOBODY, SECOND)
    plain.start()
    return plain


def reached(lab: Lab, plain: WireGuard) -> str:
    """The address that pings of h1 go to, once they are answered."""
    one = lab.hosts["h1"]
    until("a ping", lambda: one.ping_os(plain.address, count=1, wait=1).received, TIMEOUT)
    return one.path_to("wg").removesuffix(f":{WG_PORT}")


def test_an_address_that_answers_is_found(lab: Lab, plain: WireGuard) -> None:
    """Without disco, by ICMP; while the host is heard, its address stays and nobody is asked."""
    used = reached(lab, plain)
    assert used in {SECOND, str(lab.hosts["wg"].underlay)}
    assert lab.hosts["h1"].ping_os(plain.address, count=20, interval=0.2).lost == 0
    assert lab.hosts["h1"].path_to("wg") == f"{used}:{WG_PORT}"


def test_an_address_that_dies_is_left(lab: Lab, plain: WireGuard) -> None:
    """The host is silent there, to WireGuard and to ICMP; the other address takes over."""
    used = reached(lab, plain)
    run(["nft", "-f", "-"], namespace=lab.hosts["wg"].namespace, feed=GONE % used)
    other = reached(lab, plain)
    assert other in {SECOND, str(lab.hosts["wg"].underlay)} - {used}
    lab.hosts["wg"].exec("nft", "delete table ip gone")
    assert lab.hosts["h1"].ping_os(plain.address, count=3).lost == 0


def test_our_log_is_clean(lab: Lab) -> None:
    """Nothing of the above left a traceback."""
    assert "Traceback" not in lab.hosts["h1"].log.read_text()
