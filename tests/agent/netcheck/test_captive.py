"""Captive portals."""

import pytest

from tailnet.agent.netcheck.captive import encode_check, endpoints, is_portal
from tailnet.agent.netcheck.exchange import Answer
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

ADDRESS = "192.0.2.1"


def region(n: int, *nodes: DERPNode) -> DERPRegion:
    """With these."""
    return DERPRegion(region_id=n, nodes=nodes)


def test_home_is_asked_first_and_five_at_most() -> None:
    """Only nodes that serve port 80, at a literal address."""
    nodes = [DERPNode(name=f"{n}", ipv4=f"192.0.2.{n}", can_port80=True) for n in range(9)]
    off = DERPNode(name="off", ipv4="none", can_port80=True)
    no80 = DERPNode(name="no80", ipv4="192.0.2.99")
    derp_map = DERPMap(
        regions={1: region(1, off, no80, *nodes[:3]), 2: region(2, *nodes[3:]), 3: None}
    )
    assert endpoints(derp_map, 2) == [f"192.0.2.{n}" for n in (3, 4, 5, 6, 7)]
    assert endpoints(derp_map, 0)[:3] == [f"192.0.2.{n}" for n in (0, 1, 2)]


def test_request_carries_a_challenge() -> None:
    """And a stamp against caches."""
    lines = encode_check(ADDRESS, 17).decode().split("\r\n")
    assert lines[0] == "GET /generate_204?t=17 HTTP/1.1"
    assert "Host: 192.0.2.1" in lines
    assert "X-Tailscale-Challenge: ts_192.0.2.1" in lines


@pytest.mark.parametrize(
    ("status", "echoed", "portal"),
    [
        (204, "response ts_192.0.2.1", False),
        (204, "", True),
        (204, "response ts_192.0.2.2", True),
        (200, "response ts_192.0.2.1", True),
        (302, "", True),
    ],
)
def test_only_the_relay_itself_knows_the_answer(status: int, echoed: str, portal: bool) -> None:
    """204 and the challenge."""
    assert is_portal(ADDRESS, Answer(status, {"x-tailscale-response": echoed})) is portal
